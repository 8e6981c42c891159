"""Nodes, schedulers and clients that are killed or stopped, each a program of its own."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster import messages, status_from_json
from discoro_trio._link import current_endpoint
from discoro_trio._monitor._remote import RemoteScheduler
from tests._deadlines import Stopwatch, within
from tests.client.clusters import until_gone, until_servers

from .programs import BOTH_WAYS, HEAD, PULSE, SECRET, Way, open_programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .programs import Programs

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def pulses_of_a_second() -> Iterator[None]:
    before = discoro.config.MinPulseInterval, discoro.config.MsgTimeout
    discoro.config.MinPulseInterval, discoro.config.MsgTimeout = PULSE, 5.0
    yield
    discoro.config.MinPulseInterval, discoro.config.MsgTimeout = before


async def count_up(*, coro: discoro.Coro[int]) -> int:
    """Count messages until one is None."""
    count = 0
    while await coro.receive() is not None:
        count += 1
    return count


async def pid_of_server() -> int:
    return os.getpid()


@BOTH_WAYS
@pytest.mark.fault("F02")
async def test_a_killed_node_program_is_known_within_1_s_and_its_servers_are_gone_within_2_s(
    tmp_path: Path, way: Way
) -> None:
    async with open_programs(tmp_path, way) as programs:
        _, scheduler = await programs.scheduler()
        node = await programs.node(scheduler, servers=2)
        async with programs.client(scheduler, count_up) as computation:
            await until_servers(computation, 2)
            rcoros = await computation.run_servers(count_up)
            below = node.below()
            assert len([process for process in below if process.name() == "discoro-server"]) == 2
            node.process.kill()
            with within(1):
                for rcoro in rcoros:
                    with pytest.raises(discoro.ServerLost):
                        await rcoro.result()
            await until_gone(below, seconds=2)
            assert list((tmp_path / "tmp").iterdir()) == []
            await programs.node(scheduler, servers=1, name="another")
            async with computation.open_nursery() as nursery:
                rcoro = await nursery.run(count_up)
                await rcoro.send(None)


@BOTH_WAYS
@pytest.mark.fault("F03")
@pytest.mark.spec("B19")
async def test_a_scheduler_that_is_killed_and_started_again_keeps_the_running_one_and_the_order(
    tmp_path: Path, way: Way
) -> None:
    order: list[str] = []

    async def wait_and_run(programs: Programs, scheduler: discoro.Location, name: str) -> None:
        async with programs.client(scheduler, pid_of_server) as computation:
            order.append(name)
            assert await computation.run_result(pid_of_server) > 0

    async with open_programs(tmp_path, way) as programs:
        program, scheduler = await programs.scheduler()
        await programs.node(scheduler, servers=2)
        async with trio.open_nursery() as nursery, programs.client(scheduler, count_up, pid_of_server) as computation:
            await until_servers(computation, 2)
            rcoros = await computation.run_servers(count_up)
            pids = {await computation.run_result(pid_of_server) for _ in range(4)}
            for name in ("second", "third"):
                nursery.start_soon(wait_and_run, programs, scheduler, name)
                await until_waiting(scheduler, 1 if name == "second" else 2)
            program.process.kill()
            await program.ended()
            for rcoro in rcoros:
                await rcoro.deliver(1)
            _, scheduler = await programs.scheduler(scheduler)
            await until_waiting(scheduler, 2)
            with trio.move_on_after(7 * PULSE):  # beyond the time in which it grants nothing
                await rcoros[0].wait()
            assert order == []
            for rcoro in rcoros:
                await rcoro.deliver(2)
                await rcoro.send(None)
                assert await rcoro.result() == 2
            assert {await computation.run_result(pid_of_server) for _ in range(4)} == pids
    assert order == ["second", "third"]


async def until_waiting(scheduler: discoro.Location, count: int) -> None:
    """Wait until so many computations wait at a scheduler, which may not be there yet."""
    async with discoro.open_endpoint(secret=SECRET):
        endpoint = current_endpoint()
        while True:
            with suppress(discoro.PeerDisconnected):
                link = await endpoint.link_at(scheduler)
                reply = await link.request(messages.AskStatus())
                assert isinstance(reply, messages.StatusIs)
                states = [row.state for row in status_from_json(reply.tables).computations]
                if states.count("waiting") == count:
                    return
            await trio.sleep(0.05)


CLIENT = HEAD + textwrap.dedent("""
    MARK = sys.argv[2]

    async def keep(mark, me):
        import pathlib
        pathlib.Path("made.txt").write_text("by the job")
        await me.send((os.getpid(), os.getcwd()))
        try:
            await trio.sleep_forever()
        finally:
            pathlib.Path(mark).write_text("cleaned up")

    async def main():
        async with discoro.open_endpoint(**ENDPOINT):
            computation = discoro.Computation([keep, os])
            async with computation.schedule(sys.argv[1] or None), discoro.open_coro() as me:
                await computation.run(keep, MARK, me)
                pid, folder = await me.receive()
                print("runs", pid, folder, flush=True)
                await trio.sleep_forever()

    trio.run(main)
""")


@BOTH_WAYS
@pytest.mark.fault("F04")
async def test_a_killed_client_s_coroutines_files_and_lease_are_gone_within_5_s_and_the_next_one_runs(
    tmp_path: Path, way: Way
) -> None:
    mark = tmp_path / "mark"
    async with open_programs(tmp_path, way) as programs:
        _, scheduler = await programs.scheduler()
        await programs.node(scheduler)
        killed = programs.start(CLIENT, str(programs.wanted(scheduler) or ""), str(mark))
        _, pid, folder = (await killed.until_line(lambda line: line.startswith("runs"))).split()
        assert await trio.Path(folder, "made.txt").exists()
        ran = trio.Event()

        async def next_one() -> None:
            async with programs.client(scheduler, pid_of_server) as computation:
                assert await computation.run_result(pid_of_server) != int(pid)
                ran.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(next_one)
            await until_waiting(scheduler, 1)
            killed.process.kill()
            with within(5):
                await ran.wait()
        assert mark.read_text() == "cleaned up"
        assert not await trio.Path(folder).exists()
        assert not psutil.pid_exists(int(pid))


@BOTH_WAYS
@pytest.mark.fault("F07")
async def test_a_stopped_node_is_dead_after_5_pulses_and_not_before_and_useful_again_when_continued(
    tmp_path: Path, way: Way
) -> None:
    async with open_programs(tmp_path, way) as programs:
        _, scheduler = await programs.scheduler()
        node = await programs.node(scheduler)
        async with programs.client(scheduler, count_up, pid_of_server) as computation:
            await until_servers(computation, 1)
            rcoro = await computation.run(count_up)
            below = node.below()
            servers = [process for process in below if process.name() == "discoro-server"]
            stopped = Stopwatch()
            node.process.send_signal(signal.SIGSTOP)
            with pytest.raises(discoro.ServerLost):
                await rcoro.result()
            assert stopped.seconds >= 4 * PULSE
            assert stopped.undisturbed <= 12 * PULSE
            await until_gone(servers, seconds=3 * PULSE)
            node.process.send_signal(signal.SIGCONT)
            await until_servers(computation, 1)
            assert await computation.run_result(pid_of_server) not in {server.pid for server in servers}
            with pytest.raises(discoro.ServerLost):
                await rcoro.result()


@BOTH_WAYS
@pytest.mark.fault("F33")
@pytest.mark.spec("S52")
async def test_a_frozen_node_is_known_to_client_and_scheduler_after_5_pulses(tmp_path: Path, way: Way) -> None:
    async with open_programs(tmp_path, way) as programs:
        _, scheduler = await programs.scheduler()
        node = await programs.node(scheduler)
        async with programs.client(scheduler, count_up) as computation, computation.subscribe() as events:
            await until_servers(computation, 1)
            rcoro = await computation.run(count_up)
            stopped = Stopwatch()
            node.process.send_signal(signal.SIGSTOP)
            with pytest.raises(discoro.ServerLost):
                await rcoro.result()
            assert stopped.seconds >= 4 * PULSE
            assert stopped.undisturbed <= 8 * PULSE
            # The scheduler has a link, and so a heartbeat, of its own.
            while (await RemoteScheduler(current_endpoint(), str(scheduler)).status()).nodes:
                assert stopped.undisturbed <= 8 * PULSE
                await trio.sleep(0.05)
            seen: list[discoro.Status] = []
            with trio.CancelScope() as scope:
                async for event in events:
                    seen += [event.status] if isinstance(event, discoro.DiscoroStatus) else []
                    if seen[-1:] == [discoro.Status.NodeDisconnected]:
                        scope.deadline = trio.current_time() + PULSE
            assert seen.count(discoro.Status.NodeDisconnected) == 1
            node.process.send_signal(signal.SIGCONT)
            await until_servers(computation, 1)


@BOTH_WAYS
@pytest.mark.fault("F26")
@pytest.mark.spec("S52")
async def test_a_scheduler_that_is_stopped_for_10_s_closes_nothing(tmp_path: Path, way: Way) -> None:
    async with open_programs(tmp_path, way) as programs:
        program, scheduler = await programs.scheduler()
        await programs.node(scheduler)
        async with programs.client(scheduler, count_up) as computation:
            rcoro = await computation.run(count_up)
            program.process.send_signal(signal.SIGSTOP)
            with trio.move_on_after(10 * PULSE):
                await rcoro.wait()
            await rcoro.deliver(1)
            program.process.send_signal(signal.SIGCONT)
            with trio.move_on_after(2 * PULSE):
                await rcoro.wait()
            await rcoro.send(None)
            assert await rcoro.result() == 1
            second = await computation.run(count_up)
            await second.send(None)
            assert await second.result() == 0
