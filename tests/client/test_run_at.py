"""Coroutines at places: a node's, a server's, each node's or server's; servers restarted and nodes suspended."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

NODE = "127.0.0.1"


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation([where_am_i, stay]) as computation:
        yield computation


async def where_am_i(*, coro: discoro.Coro[Any]) -> discoro.Location:
    return coro.location


async def process_id() -> int:
    return os.getpid()


async def stay(folder: Path, *, coro: discoro.Coro[Any]) -> None:
    """Say in a folder that it runs, and at its end that it has cleaned up."""
    mark = folder / f"{coro.location}-{coro.serial:x}"
    mark.touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.02)
        mark.unlink()


def marks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def until_files(folder: Path, count: int) -> None:
    while len(marks(folder)) != count:  # noqa: ASYNC110 (other processes make them)
        await trio.sleep(0.005)


@pytest.mark.spec("S59", "S60", "S61", "S69", "S70")
async def test_run_at_starts_at_the_node_or_server_that_was_named(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    (node,) = await computation.nodes()
    servers = await computation.servers()
    assert node == NODE
    for server in servers:
        coro = await computation.run_at(server, where_am_i)
        assert coro.location == await coro.result() == server
    coro = await computation.run_at(node, where_am_i)
    assert await coro.result() in servers
    await computation.run_at(servers[0], stay, tmp_path)
    for server in (servers[0], servers[1], servers[0], servers[0], servers[1], servers[1]):  # busy or not
        assert (await computation.run_at(str(server), where_am_i)).location == server


@pytest.mark.spec("S60", "S63")
async def test_run_and_run_at_a_node_take_the_least_loaded_server(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    busy, idle = await computation.servers()
    await computation.run_at(busy, stay, tmp_path)
    for _ in range(2):
        assert await computation.run_result(where_am_i) == idle
        assert await (await computation.run_at(NODE, where_am_i)).result() == idle


@pytest.mark.spec("S61")
async def test_unknown_places_are_an_error_that_lists_the_known_ones(computation: discoro.Computation) -> None:
    servers = await computation.servers()
    for where in ("nowhere.example", discoro.Location(NODE, 1)):
        with pytest.raises(discoro.UnknownLocation) as caught:
            await computation.run_at(where, where_am_i)
        assert all(str(known) in str(caught.value) for known in (NODE, *servers))
    with pytest.raises(TypeError, match="where must be"):
        await computation.run_at(5, where_am_i)  # type: ignore[call-overload]
    with pytest.raises(discoro.UnknownLocation):
        await computation.suspend_node("nowhere.example")
    with pytest.raises(discoro.UnknownLocation):
        await computation.restart_server(discoro.Location(NODE, 1))


@pytest.mark.spec("S62", "S64", "S65", "S66")
async def test_each_node_each_server_and_each_server_of_a_node(computation: discoro.Computation) -> None:
    servers = sorted(await computation.servers())
    for started in (
        await computation.run_each("server", where_am_i),
        await computation.run_each(NODE, where_am_i),
        await computation.run_servers(where_am_i),
        await computation.run_node_servers(NODE, where_am_i),
    ):
        assert sorted([await coro.result() for coro in started]) == servers
    for started in (await computation.run_each("node", where_am_i), await computation.run_nodes(where_am_i)):
        assert len(started) == 1
        assert await started[0].result() in servers


@pytest.mark.spec("S62", "S65")
async def test_each_server_means_all_that_are_still_being_set_up() -> None:
    computation = discoro.Computation()
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=3), computation.schedule():
            assert len(await computation.run_servers(where_am_i)) == 3


@pytest.mark.spec("S62")
async def test_when_one_server_is_lost_meanwhile_none_of_them_survives(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    first, second = await computation.servers()
    pid = await (await computation.run_at(second, process_id)).result()
    os.kill(pid, 19)  # it cannot say that its coroutine exists

    async def kill_when_the_other_runs() -> None:
        await until_files(tmp_path, 1)
        os.kill(pid, 9)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill_when_the_other_runs)
        with pytest.raises(discoro.ServerLost) as caught:
            await computation.run_servers(stay, tmp_path)
    assert caught.value.location == second
    assert marks(tmp_path) == [], "the other one, at the first, has cleaned up"
    assert (await computation.run_at(first, where_am_i)).location == first


@pytest.mark.spec("S62", "B02")
async def test_cancelled_while_it_starts_none_of_them_survives(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    _, second = await computation.servers()
    pid = await (await computation.run_at(second, process_id)).result()
    os.kill(pid, 19)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel_when_one_runs() -> None:
                await until_files(tmp_path, 1)
                scope.cancel()
                os.kill(pid, 18)

            nursery.start_soon(cancel_when_one_runs)
            await computation.run_servers(stay, tmp_path)
    assert scope.cancelled_caught
    assert marks(tmp_path) == []
    assert computation.statistics().running == 0


@pytest.mark.spec("S62")
async def test_when_the_function_cannot_be_sent_nothing_is_started(computation: discoro.Computation) -> None:
    lock = threading.Lock()

    async def held() -> bool:
        return lock.locked()

    before = computation.statistics().submitted
    with pytest.raises(discoro.NotPicklable):
        await computation.run_servers(held)
    assert computation.statistics().submitted == before


@pytest.mark.spec("S59", "S62", "S63")
async def test_without_any_server_everything_waits_and_can_be_cancelled() -> None:
    computation = discoro.Computation()
    async with discoro.open_cluster(servers=1), computation.schedule():
        await computation.run_result(where_am_i)
        await computation.suspend_node(NODE)
        for run in (
            lambda: computation.run(where_am_i),
            lambda: computation.run_result(where_am_i),
            lambda: computation.run_at(NODE, where_am_i),
            lambda: computation.run_servers(where_am_i),
        ):
            with trio.move_on_after(0.02) as scope:
                await run()
            assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(computation.run_result, where_am_i)
            await trio.testing.wait_all_tasks_blocked()
            assert computation.statistics().waiting == 1
            await computation.resume_node(NODE)


async def test_a_suspended_node_keeps_what_runs_there(computation: discoro.Computation) -> None:
    coro = await computation.run(receive_one)
    await computation.suspend_node(NODE)
    assert computation.statistics().suspended_nodes == 1
    await coro.send("message")
    assert await coro.result() == "message"
    await computation.resume_node(NODE)
    assert computation.statistics().suspended_nodes == 0
    assert await computation.run_result(where_am_i) in await computation.servers()


async def receive_one(*, coro: discoro.Coro[Any]) -> object:
    return await coro.receive()


async def test_a_restarted_server_is_a_fresh_process_after_the_clean_up(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    old, other = await computation.servers()
    pid = await (await computation.run_at(old, process_id)).result()
    staying = await computation.run_at(old, stay, tmp_path)
    await until_files(tmp_path, 1)
    new = await computation.restart_server(old)
    assert marks(tmp_path) == []
    with pytest.raises(discoro.CoroCancelled, match="restarted"):
        await staying.result()
    assert sorted(await computation.servers()) == sorted([new, other])
    assert await (await computation.run_at(new, process_id)).result() != pid
    assert computation.statistics().servers_lost == 1


async def test_a_cancelled_restart_is_done_all_the_same(computation: discoro.Computation) -> None:
    old, other = await computation.servers()
    with trio.CancelScope() as scope:
        scope.cancel()
        await computation.restart_server(old)
    assert old in await computation.servers(), "cancelled before it began"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(computation.restart_server, old)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    while len(servers := await computation.servers()) != 2 or old in servers:  # noqa: ASYNC110 (no event)
        await trio.sleep(0.005)
    assert other in servers


async def test_statistics_count_what_was_started_and_what_runs(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    before = computation.statistics()
    assert (before.nodes, before.servers, before.running) == (1, 2, 0)
    staying = await computation.run(stay, tmp_path)
    await computation.run_results(where_am_i_of, range(10))
    after = computation.statistics()
    assert after.submitted == before.submitted + 11
    assert after.running == 1
    staying.cancel()
    await staying.wait()
    assert computation.statistics().running == 0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        after.running = 5  # type: ignore[misc]


async def where_am_i_of(_item: int, *, coro: discoro.Coro[Any]) -> discoro.Location:
    return coro.location


# --- what cannot be


async def test_before_the_schedule_and_after_the_close_it_says_so() -> None:
    computation = discoro.Computation()
    with pytest.raises(RuntimeError, match="not scheduled"):
        await computation.run(where_am_i)
    with pytest.raises(RuntimeError, match="not scheduled"):
        computation.open_nursery()
    async with discoro.open_cluster(servers=1), computation.schedule():
        with pytest.raises(RuntimeError, match="scheduled already"):
            async with computation.schedule():
                pass
        await computation.close()
        for run in (
            lambda: computation.run(where_am_i),
            lambda: computation.run_at(NODE, where_am_i),
            lambda: computation.run_servers(where_am_i),
            lambda: computation.run_result(where_am_i),
            computation.servers,
        ):
            with pytest.raises(discoro.ComputationClosed):
                await run()


@pytest.mark.spec("S68")
async def test_bad_functions_and_arguments_get_a_sentence(computation: discoro.Computation) -> None:
    def old() -> Any:
        yield

    with pytest.raises(TypeError, match="generator function: make it `async def`"):
        await computation.run(old)
    with pytest.raises(TypeError, match="an async function or a plain function is needed, not 5"):
        await computation.run_at(NODE, 5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="give the function and its arguments"):
        await computation.run_servers(process_id())  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="coro= cannot be given"):
        await computation.run_each("node", where_am_i, coro=None)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"components": [5]}, TypeError, "5"),
        ({"threads": 0}, ValueError, "threads must be 1 or more"),
        ({"grace_period": -1}, ValueError, "grace_period must be 0 or more"),
        ({"pulse_interval": 1e9}, ValueError, "config.MaxPulseInterval"),
        ({"node_setup": 5}, TypeError, "an async function or a plain function is needed"),
    ],
)
@pytest.mark.spec("S42", "S53")
def test_bad_options_get_a_sentence(options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        discoro.Computation(**options)


@pytest.mark.parametrize("option", [{"cpus": 0}, {"memory": -1}, {"disk": -1}])
@pytest.mark.spec("B09")
def test_a_part_of_nothing_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        discoro.NodeAllocation(**option)


async def test_a_cluster_without_servers_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="servers must be 1 or more"):
        async with discoro.open_cluster(servers=0):
            pass


async def take(first: int, *rest: int, second: int = 0, coro: discoro.Coro[Any]) -> tuple[object, ...]:
    assert coro.name
    return first, rest, second


@pytest.mark.parametrize(
    "way",
    ["run", "run_at", "run_each", "run_nodes", "run_servers", "run_node_servers", "run_result", "run in a nursery",
     "run_at in a nursery", "schedule", "execute", "execute_at"],
)  # fmt: skip
async def test_arguments_by_position_and_by_name_arrive_in_every_way(
    computation: discoro.Computation, way: str
) -> None:
    name, _, _ = way.partition(" ")
    where = {"run_at": [NODE], "run_each": ["server"], "run_node_servers": [NODE], "execute_at": [NODE]}.get(name, [])
    async with computation.open_nursery() as nursery, discoro.ProcScheduler(computation) as scheduler:
        owner: Any = scheduler if name in {"schedule", "execute", "execute_at"} else computation
        run = getattr(nursery if "nursery" in way else owner, name)
        given = await run(*where, take, 1, 2, 3, second=4)
        coros = given if isinstance(given, list) else [given]
        assert len(coros) == (2 if name in {"run_each", "run_servers", "run_node_servers"} else 1)
        values = [await one.result() if isinstance(one, discoro.Coro) else one for one in coros]
        assert set(values) == {(1, (2, 3), 4)}
