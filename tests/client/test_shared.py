"""Many clients and a shared scheduler; private schedulers that want the same node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from tests._deadlines import Stopwatch
from tests._ports import free_udp_port

from .clusters import until_servers
from .shared import SECRET, client, open_shared

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


class Memory:
    """A server's own."""

    words: list[str] = []  # noqa: RUF012 - shared by all jobs of a server on purpose


async def where(*, coro: discoro.Coro[discoro.Location]) -> discoro.Location:
    return coro.location


def leave_a_mark(word: str) -> tuple[list[str], list[str]]:
    """Tell what others have left in memory and in the folder, and leave something."""
    seen = list(Memory.words), sorted(path.name for path in Path.cwd().iterdir())
    Memory.words.append(word)
    Path(word).write_text(word, encoding="utf-8")
    return seen


async def tell(word: str, *, coro: discoro.Coro[None]) -> None:
    coro.register("the name")
    await coro.receive()


@pytest.fixture
def short_pulses() -> Iterator[None]:
    """Judge the silent soon."""
    before = discoro.config.MinPulseInterval
    discoro.config.MinPulseInterval = 0.6
    yield
    discoro.config.MinPulseInterval = before


async def until_rows(scheduler: discoro.Scheduler, states: list[str]) -> None:
    """Wait until the computations of a scheduler are in these states."""
    while [row.state for row in (await scheduler.status()).computations] != states:  # noqa: ASYNC110 (no event)
        await trio.sleep(0.01)


@pytest.mark.spec("S32", "S34", "S57", "S58", "S72")
async def test_clients_take_turns_in_their_order_and_one_that_is_cancelled_leaves_no_gap() -> None:
    order: list[str] = []

    async def work(scheduler: discoro.Scheduler, name: str, scope: trio.CancelScope) -> None:
        with scope:
            async with client(scheduler, where) as computation:
                order.append(name)
                assert await computation.run_result(where) in await computation.servers()
                await done[name].wait()

    done = {name: trio.Event() for name in "abc"}
    scopes = {name: trio.CancelScope() for name in "abc"}
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True)
        await cluster.node("n1", scheduler)
        async with trio.open_nursery() as nursery:
            for count, name in enumerate("abc", 1):
                nursery.start_soon(work, scheduler, name, scopes[name])
                await until_rows(scheduler, ["running", *["waiting"] * (count - 1)])
            rows = (await scheduler.status()).computations
            assert [row.place for row in rows] == [0, 1, 2]
            scopes["b"].cancel()
            await until_rows(scheduler, ["running", "waiting"])
            done["a"].set()
            await until_rows(scheduler, ["running"])
            done["c"].set()
    assert order == ["a", "c"]


@pytest.mark.spec("B09", "S104")
async def test_disjoint_computations_run_side_by_side_and_see_nothing_of_each_other() -> None:
    half = [discoro.NodeAllocation(cpus=1)]
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True)
        await cluster.node("n1", scheduler, servers=2)
        seen: dict[str, tuple[list[str], list[str]]] = {}

        async def work(name: str) -> None:
            async with client(scheduler, Memory, leave_a_mark, where, tell, node_allocations=half) as computation:
                coro = await computation.run(tell, name)
                seen[name] = await computation.run_result(leave_a_mark, name)
                (server,) = await computation.servers()
                both.append(server)
                if len(both) == 2:
                    together.set()
                await together.wait()
                assert await discoro.locate("the name") == coro

        both: list[discoro.Location] = []
        together = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "a")
            nursery.start_soon(work, "b")
    assert len(set(both)) == 2
    assert seen == {"a": ([], []), "b": ([], [])}


@pytest.mark.spec("S39", "S40", "S55")
async def test_a_computation_whose_servers_are_idle_for_the_zombie_period_makes_room_for_the_next(
    short_pulses: None,
) -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True, zombie_period=0.7)
        await cluster.node("n1", scheduler, servers=2)
        async with client(scheduler, where) as first:
            await until_servers(first, 2)

            async def second() -> None:
                async with client(scheduler, where, zombie_period=100) as computation:
                    await computation.run_result(where)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(second)
                while True:
                    try:
                        await first.run_result(where)
                    except discoro.ComputationClosed as error:
                        assert "zombie period" in str(error)  # noqa: PT017 - the loop ends by it
                        break
                    await trio.sleep(1.5)


@pytest.mark.spec("S39", "S54")
async def test_a_server_that_is_busy_all_the_time_is_not_closed(short_pulses: None) -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True, zombie_period=0.7)
        await cluster.node("n1", scheduler, servers=2)
        async with client(scheduler, tell, where) as computation:
            (busy, _) = await until_servers(computation, 2)
            coro = await computation.run_at(busy, tell, "x")
            while len(await computation.servers()) == 2:  # noqa: ASYNC110 (there is no event)
                await trio.sleep(0.05)
            await trio.sleep(1)
            assert await computation.servers() == [busy]
            assert await computation.run_result(where) == busy
            await coro.send("end")


@pytest.mark.fault("F04")
@pytest.mark.spec("S32")
async def test_a_client_that_is_gone_frees_its_lease_and_the_next_one_runs(short_pulses: None) -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True)
        await cluster.node("n1", scheduler)
        computation = discoro.Computation([where])

        async def first(task_status: trio.TaskStatus[None]) -> None:
            async with discoro.open_endpoint(secret=SECRET) as endpoint, computation.schedule(scheduler.location):
                await until_servers(computation, 1)
                task_status.started()
                endpoint.nursery.cancel_scope.cancel()  # it neither listens nor dials any more
                for link in list(endpoint.links.values()):
                    link.fail(discoro.PeerDisconnected("the test cuts it"))
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            await nursery.start(first)
            async with client(scheduler, where) as second:
                await second.run_result(where)
            nursery.cancel_scope.cancel()


async def test_two_private_schedulers_want_one_node_and_the_second_waits_until_it_is_free() -> None:
    async with open_shared() as cluster:
        one, two = await cluster.scheduler("one"), await cluster.scheduler("two")
        await cluster.node("n1", one, two, servers=2)
        ignored: list[discoro.Status] = []
        async with trio.open_nursery() as nursery, client(one, where) as first:
            await until_servers(first, 2)
            computation = discoro.Computation([where])

            async def second() -> None:
                async with (
                    computation.subscribe() as channel,
                    discoro.open_endpoint(secret=SECRET),
                    computation.schedule(two.location),
                ):
                    async for event in channel:
                        assert isinstance(event, discoro.DiscoroStatus)
                        ignored.append(event.status)
                        if event.status in {discoro.Status.NodeIgnore, discoro.Status.ServerIgnore}:
                            told.set()
                        if event.status is discoro.Status.ServerInitialized:
                            break
                    await computation.run_result(where)

            told = trio.Event()
            nursery.start_soon(second)
            await told.wait()
            assert await first.run_result(where) in await first.servers()
    assert discoro.Status.ServerInitialized in ignored


@pytest.mark.spec("B19")
@pytest.mark.fault("F03")
async def test_a_computation_outlives_its_scheduler_and_the_queue_is_back_in_its_order(short_pulses: None) -> None:
    order: list[str] = []

    async def work(scheduler: discoro.Scheduler, name: str) -> None:
        async with client(scheduler, where) as computation:
            order.append(name)
            for _ in range(2):
                await computation.run_result(where)
                await done[name].wait()
            await computation.run_result(where)

    done = {name: trio.Event() for name in "abc"}
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler(shared=True, name="scheduler")
        port = scheduler.location.port
        await cluster.node("n1", scheduler)
        async with trio.open_nursery() as nursery:
            for count, name in enumerate("abc", 1):
                nursery.start_soon(work, scheduler, name)
                await until_rows(scheduler, ["running", *["waiting"] * (count - 1)])
            cluster.close("scheduler")
            await trio.sleep(0.3)
            scheduler = await cluster.scheduler("again", shared=True, tcp_ports=[port])
            await until_rows(scheduler, ["running", "waiting", "waiting"])
            assert order == ["a"], "a scheduler that ends gives nobody a turn"
            done["a"].set()
            done["b"].set()
            done["c"].set()
    assert order == ["a", "b", "c"]


@pytest.mark.spec("B19")
@pytest.mark.fault("F29")
@pytest.mark.parametrize("found_by", ["discovery", "name", "address"])
async def test_a_scheduler_that_comes_back_at_another_port_is_found_in_the_way_it_was_found(
    found_by: str, short_pulses: None
) -> None:
    udp_port = free_udp_port()
    order: list[str] = []
    done = trio.Event()

    async def work(name: str, scheduler: discoro.Scheduler) -> None:
        wanted = {"discovery": None, "name": "localhost", "address": str(scheduler.location)}[found_by]
        computation = discoro.Computation([where])
        async with discoro.open_endpoint(secret=SECRET, udp_port=udp_port), computation.schedule(wanted):
            order.append(name)
            await computation.run_result(where)
            await done.wait()
            await computation.run_result(where)

    async with open_shared() as cluster:
        options: dict[str, Any] = {"shared": True, "discover": True, "udp_port": udp_port}
        scheduler = await cluster.scheduler(**options)
        await cluster.node("node", scheduler, discover=True, udp_port=udp_port)
        async with trio.open_nursery() as nursery:
            for count, name in enumerate("abc"):
                nursery.start_soon(work, name, scheduler)
                await until_rows(scheduler, ["running", *["waiting"] * count])
            old = scheduler.location
            cluster.close("scheduler")
            scheduler = await cluster.scheduler("again", **options)
            assert scheduler.location != old
            await until_rows(scheduler, ["running", "waiting", "waiting"])
            assert order == ["a"]
            done.set()
    assert order == ["a", "b", "c"]


@pytest.mark.spec("S50")
async def test_the_timeout_of_a_computation_bounds_the_connection_to_a_peer_that_never_answers() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        silent = discoro.Location("127.0.0.1", listener.socket.getsockname()[1])
        computation = discoro.Computation([where], timeout=0.5)
        watch = Stopwatch()
        with pytest.raises(discoro.SchedulerNotFound, match=r"did not answer within 0\.5"):
            async with discoro.open_endpoint(secret=SECRET), computation.schedule(silent):
                pytest.fail("it runs without a word of the scheduler")
        assert watch.seconds > 0.4
        assert watch.undisturbed < 3
