"""What a computation tells of itself: status messages, ends of coroutines, tables."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

import discoro_trio as discoro
from discoro_trio import DiscoroStatus, MonitorException, PeerDisconnected, Status, StatusLagged
from discoro_trio._client._status import note_moved, tell_created, tell_ended
from discoro_trio._cluster import ClusterStatus, ComputationStatus, status_as_json, status_as_table, status_from_json
from discoro_trio._cluster._status_events import Publisher
from discoro_trio._process import Call, LocalOutcome

from .clusters import open_computation, until_servers
from .shared import client, open_shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from discoro_trio._cluster import Event

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def echo(value: Any, *, twice: bool = False) -> Any:
    return (value, value) if twice else value


async def fail() -> None:
    message = "broken"
    raise ValueError(message)


async def report_and_wait(*, coro: discoro.Coro[None]) -> None:
    coro.report(3, total=4, text="three of four")
    await trio.sleep_forever()


async def until(channel: trio.abc.ReceiveChannel[Event], wanted: Callable[[Event], bool]) -> list[Event]:
    """Receive up to the event that is wanted, and give all of them."""
    events: list[Event] = []
    while not events or not wanted(events[-1]):
        events.append(await channel.receive())
    return events


def statuses(events: list[Event]) -> list[Status]:
    return [event.status for event in events if isinstance(event, DiscoroStatus)]


def is_status(status: Status) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, DiscoroStatus) and event.status is status


@pytest.mark.spec("S75", "S76", "S77", "S78", "S79", "S36")
async def test_nodes_servers_and_the_computation_itself_are_told_in_the_order_of_their_lives() -> None:
    computation = discoro.Computation([echo])
    with trio.fail_after(30):
        async with computation.subscribe() as channel:
            async with discoro.open_cluster(servers=1) as scheduler, computation.schedule():
                before = await until(channel, is_status(Status.ServerInitialized))
                (server,) = await computation.servers()
            after = [event async for event in channel]
    assert set(statuses(before[:-3])) == {Status.NodeDiscovered, Status.ComputationScheduled}
    assert statuses(before[-3:]) == [Status.NodeInitialized, Status.ServerDiscovered, Status.ServerInitialized]
    assert statuses(after) == [Status.ServerClosed, Status.NodeClosed, Status.ComputationClosed]
    infos = {event.status: event.info for event in before + after if isinstance(event, DiscoroStatus)}
    assert infos[Status.NodeInitialized] == infos[Status.NodeClosed] == scheduler.location.addr
    assert infos[Status.ServerInitialized] == infos[Status.ServerClosed] == server
    assert isinstance(infos[Status.ComputationClosed], discoro.Location)


@pytest.mark.spec("S74", "S78", "S79", "S80")
async def test_every_coroutine_is_told_when_it_is_created_and_when_it_ends() -> None:
    async with open_computation([echo, fail]) as computation, computation.subscribe() as channel:
        assert await computation.run_result(echo, 1, twice=True) == (1, 1)
        coro = await computation.run(fail)
        await coro.wait()
        assert await computation.run_results(echo, [5]) == [5]
        events = [await channel.receive() for _ in range(6)]
    created = [event.info for event in events if isinstance(event, DiscoroStatus)]
    ended = [event for event in events if isinstance(event, MonitorException)]
    assert [(info.args, info.kwargs) for info in created] == [((1,), {"twice": True}), ((), {}), ((5,), {})]  # type: ignore[union-attr]
    assert [info.coro for info in created] == [event.coro for event in ended]  # type: ignore[union-attr]
    assert created[1].coro == coro  # type: ignore[union-attr]
    assert created[0].start_time <= created[1].start_time  # type: ignore[union-attr]
    assert [event.value for event in ended] == [(1, 1), None, 5]
    assert [repr(event.error) for event in ended] == ["None", "ValueError('broken')", "None"]


@pytest.mark.spec("S49", "S74")
async def test_a_status_coroutine_gets_everything_to_the_close_and_its_errors_count_as_heard() -> None:
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=1), discoro.open_coro("status") as status:
            async with discoro.Computation([fail], status_coro=status).schedule() as computation:
                await (await computation.run(fail)).wait()
            events: list[Any] = []
            while not events or not is_status(Status.ComputationClosed)(events[-1]):
                events.append(await status.receive())
    assert [repr(event.error) for event in events if isinstance(event, MonitorException)] == ["ValueError('broken')"]
    assert {Status.ServerInitialized, Status.CoroCreated, Status.ServerClosed} <= set(statuses(events))


async def test_an_error_that_is_told_before_there_is_a_handle_counts_as_heard() -> None:
    async with open_computation([fail]) as computation, computation.subscribe() as channel:
        session = computation._session
        assert session is not None
        started = session.submit(Call(fail, (), {}, session.set_up.shipped))
        await started.until_ended()
        assert not started.heard
        while not isinstance(await channel.receive(), MonitorException):
            pass
        assert started.heard


@pytest.mark.spec("S49")
def test_a_status_coroutine_that_is_none_is_an_error_at_construction() -> None:
    with pytest.raises(TypeError, match="status_coro must be a Coro"):
        discoro.Computation(status_coro=print)  # type: ignore[arg-type]


@pytest.mark.spec("S74")
async def test_a_subscriber_too_far_behind_gets_one_number_with_a_snapshot_and_goes_on() -> None:
    backlog = discoro.config.status_backlog
    discoro.config.status_backlog = 10
    try:
        async with open_computation([echo]) as computation, computation.subscribe() as channel:
            assert await computation.run_results(echo, range(20)) == list(range(20))
            lagged = await channel.receive()
            assert isinstance(lagged, StatusLagged)
            assert lagged.missed == 40
            assert isinstance(lagged.snapshot, ClusterStatus)
            assert (lagged.snapshot.submitted, lagged.snapshot.running) == (20, 0)
            await computation.run_result(echo, 1)
            event = await channel.receive()
            assert isinstance(event, DiscoroStatus)
    finally:
        discoro.config.status_backlog = backlog


@pytest.mark.spec("S74")
async def test_events_that_nobody_reads_are_no_work_for_the_garbage_collector() -> None:
    # It runs the oftener the more tracked objects there are, and each object of an event would cost jobs 3 to 5 %.
    async with open_computation([echo]) as computation:
        await computation.run_results(echo, range(100))
        async with computation.subscribe():
            gc.collect()
            before = len(gc.get_objects())
            await computation.run_results(echo, range(1000))
            gc.collect()
            assert len(gc.get_objects()) - before < 500


@pytest.mark.spec("S74", "S80")
async def test_events_that_are_read_late_have_handles_that_know_the_outcome() -> None:
    async with open_computation([echo, fail]) as computation, computation.subscribe() as channel:
        assert await computation.run_result(echo, 7) == 7
        with pytest.raises(ValueError, match="broken"):
            await computation.run_result(fail)
        (first, ended, second, failed) = [await channel.receive() for _ in range(4)]
        assert isinstance(first, DiscoroStatus)
        assert isinstance(first.info, discoro.CoroInfo)
        assert await first.info.coro.result() == 7
        assert ended == MonitorException(first.info.coro, 7, None)
        assert isinstance(second, DiscoroStatus)
        assert isinstance(second.info, discoro.CoroInfo)
        with pytest.raises(ValueError, match="broken"):
            await second.info.coro.result()
        assert isinstance(failed, MonitorException)
        assert failed.coro == second.info.coro


async def test_a_status_coroutine_that_never_reads_holds_nothing_up() -> None:
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2),
            discoro.open_coro("status", mailbox_size=3) as status,
            discoro.Computation([echo], status_coro=status).schedule() as computation,
        ):
            assert await computation.run_results(echo, range(500)) == list(range(500))


@pytest.mark.spec("S74")
async def test_a_coroutine_lost_with_its_server_is_told_with_the_server() -> None:
    async with open_computation([report_and_wait]) as computation, computation.subscribe() as channel:
        coro = await computation.run(report_and_wait)
        await computation.restart_server(coro.location)
        events = await until(channel, is_status(Status.ServerInitialized))
        told = {event.status: event.info for event in events if isinstance(event, DiscoroStatus)}
        assert told[Status.ServerClosed] == coro.location
        ended = [event for event in events if isinstance(event, MonitorException)]
        assert [event.coro for event in ended] == [coro]
        await coro.wait()


async def never_ready() -> None:
    message = "no licence here"
    raise OSError(message)


@pytest.mark.spec("S76", "S79")
async def test_a_node_whose_connection_is_lost_is_told_as_disconnected_and_one_that_ends_as_closed() -> None:
    async with open_shared() as cluster:
        scheduler = await cluster.scheduler()
        await cluster.node("n1", scheduler)
        async with client(scheduler, echo) as computation, computation.subscribe() as channel:
            await until_servers(computation, 1)
            session = computation._session
            assert session is not None
            (node,) = session.nodes.values()
            node.link.fail(PeerDisconnected("cut by the test"))
            events = await until(channel, is_status(Status.NodeDisconnected))
            assert events[-1] == DiscoroStatus(Status.NodeDisconnected, "127.0.0.1")
            assert Status.NodeClosed not in statuses(events)
        await cluster.node("n2", scheduler)
        async with client(scheduler, echo) as computation, computation.subscribe() as channel:
            await until_servers(computation, 2)
            cluster.close("n2")
            events = await until(channel, is_status(Status.NodeClosed))
            assert Status.NodeDisconnected not in statuses(events)


@pytest.mark.spec("S77", "S79")
async def test_a_server_is_told_as_closed_if_it_was_asked_to_end_disconnected_if_not_and_ignored_if_unusable() -> None:
    async with open_computation([echo], servers=1) as computation, computation.subscribe() as channel:
        (first,) = await computation.servers()
        await computation.restart_server(first)
        events = await until(channel, is_status(Status.ServerInitialized))
        told = [event for event in events if isinstance(event, DiscoroStatus)]
        assert DiscoroStatus(Status.ServerClosed, first) in told
        assert Status.ServerDisconnected not in statuses(events)
        (second,) = await computation.servers()
        assert told[-2:] == [
            DiscoroStatus(Status.ServerDiscovered, second),
            DiscoroStatus(Status.ServerInitialized, second),
        ]
        pid = await computation.run_result(os.getpid)
        os.kill(pid, signal.SIGKILL)
        events = await until(channel, is_status(Status.ServerInitialized))
        assert DiscoroStatus(Status.ServerDisconnected, second) in events
        assert Status.ServerClosed not in statuses(events)
    unusable = discoro.Computation([echo], server_setup=never_ready)
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=1), unusable.subscribe() as channel, unusable.schedule(servers=0):
            events = await until(channel, is_status(Status.ServerIgnore))
            assert isinstance(events[-1], DiscoroStatus)
            assert isinstance(events[-1].info, discoro.Location)
            assert Status.ServerInitialized not in statuses(events)


@pytest.mark.spec("B18", "B23")
async def test_the_scheduler_tells_nodes_servers_computations_and_what_runs_with_its_progress() -> None:
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2) as scheduler,
            discoro.Computation([report_and_wait], name="counted").schedule() as computation,
        ):
            coro = await computation.run(report_and_wait)
            status = await scheduler.status()
            while not status.running or status.nodes[0].info is None:
                await trio.sleep(0.05)
                status = await scheduler.status()
            (node,), (row,) = status.nodes, status.computations
            assert (node.addr, node.servers, node.free, node.submitted, node.running) == ("127.0.0.1", 2, 0, 1, 1)
            assert node.info is not None
            assert 0 < node.info.memory_available <= node.info.memory_total
            assert 0 < node.info.disk_available <= node.info.disk_total
            assert node.info.cpus >= 1
            assert 0 <= node.info.cpu_percent <= 100
            assert (row.name, row.state, row.place, row.servers) == ("counted", "running", 0, 2)
            (server,) = [server for server in status.servers if server.running]
            (running,) = server.coroutines
            assert server.location == coro.location
            assert (running.coro, running.name) == (coro, "report_and_wait")
            assert running.progress is not None
            assert (running.progress.done, running.progress.total) == (3, 4)
            again = status_from_json(status_as_json(status))
            assert again == status
            assert "three of four" in status_as_json(status, indent=2)
            table = status_as_table(status)
            assert "counted" in table
            assert f"{server.location} {node.name} " in " ".join(table.split()), "people know nodes by their names"
            coro.cancel()
            await coro.wait()
            while (await scheduler.status()).running:  # noqa: ASYNC110 (reports come by time)
                await trio.sleep(0.05)
            assert (await scheduler.status()).done == 1


@pytest.mark.spec("S36", "S76", "S77", "S78")
async def test_a_subscriber_of_the_scheduler_hears_of_computations_and_servers() -> None:
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=1) as scheduler, scheduler.subscribe() as channel:
            async with discoro.Computation().schedule() as computation:
                await until_servers(computation, 1)
            events = await until(channel, is_status(Status.ComputationClosed))
            events += await until(channel, is_status(Status.ServerDiscovered))
    assert {Status.ComputationScheduled, Status.ServerDiscovered, Status.ServerClosed} <= set(statuses(events))


def test_a_table_shows_control_characters_instead_of_obeying_them() -> None:
    status = ClusterStatus(time=0.0, scheduler=None, nodes=(), servers=(), computations=())
    assert "none" in status_as_table(status)
    bad = ComputationStatus(
        id="1",
        name="\x1b[2Jx\ny",
        client=discoro.Location("h", 1),
        state="running",
        place=0,
        nodes=0,
        servers=0,
        zombie_period=0.0,
    )
    text = status_as_table(attrs.evolve(status, computations=(bad,)))
    assert "\x1b" not in text
    assert "\\x1b[2Jx\\ny" in text


@pytest.mark.spec("S76")
@pytest.mark.parametrize("read_before", [True, False])
def test_a_start_that_is_moved_ends_under_the_id_with_which_it_was_reported(*, read_before: bool) -> None:
    def server(name: bytes) -> Any:
        host = SimpleNamespace(started={})
        return SimpleNamespace(server_id=name, host=host, session=session)

    session: Any = SimpleNamespace(
        status=Publisher(object), handle=lambda record: (record.home, record.serial), records=SimpleNamespace()
    )
    session.records.found = lambda _home, _serial: None
    first, second = server(b"a"), server(b"b")
    subscriber = session.status.add()
    started: Any = SimpleNamespace(serial=1, name="job", noted=None, outcome=None, failed=False)
    call: Any = SimpleNamespace(args=(), kwargs={})
    tell_created(first, started, call)
    events: list[Any] = [subscriber.take()] if read_before else []
    started.serial = 2
    note_moved(second, started)
    started.outcome = LocalOutcome.returned(7)
    tell_ended(second, started)
    events += list(iter(subscriber.take, None))
    created, ended = events
    assert created.info.coro == ended.coro == ((b"a", 1) if read_before else (b"b", 2))
    assert ended.value == 7
