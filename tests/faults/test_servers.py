"""Servers that are stopped, blocked or poisoned, while others go on."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster import status_as_table
from tests._deadlines import Stopwatch, within
from tests.client.clusters import open_computation, until_servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

PULSE = 0.4


@pytest.fixture
def quick_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoro.config, "MinPulseInterval", PULSE)


async def pid_of_server() -> int:
    return os.getpid()


async def count_up(client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    """Count messages until one is None."""
    await client.send(os.getpid())
    count = 0
    while await coro.receive() is not None:
        count += 1
    return count


async def block(client: discoro.Coro[None], seconds: float) -> str:
    await client.deliver(os.getpid())
    time.sleep(seconds)  # noqa: ASYNC251 - that is what is tested
    return "over"


@pytest.mark.fault("F07")
async def test_a_stopped_server_is_replaced_after_5_pulses_and_not_before(quick_pulses: None) -> None:
    async with open_computation([count_up, pid_of_server]) as computation, discoro.open_coro() as client:
        victim, other = [await computation.run(count_up, client) for _ in range(2)]
        pids = {await client.receive(), await client.receive()}
        assert victim.location != other.location
        pid = await computation.run_result(pid_of_server)
        assert pid in pids
        on_victim = await computation.run_at(victim.location, pid_of_server)
        pid = await on_victim.result()
        os.kill(pid, signal.SIGSTOP)
        stopped = Stopwatch()
        with pytest.raises(discoro.ServerLost, match="stopped by a signal for 5 pulse intervals") as caught:
            await victim.result()
        assert stopped.seconds >= 5 * PULSE
        assert stopped.undisturbed <= 7 * PULSE
        assert caught.value.signal == signal.SIGKILL
        assert other.location in await until_servers(computation, 2)
        await other.send(None)
        assert await other.result() == 0


@pytest.mark.fault("F07")
async def test_a_server_that_is_continued_in_time_goes_on(quick_pulses: None) -> None:
    async with open_computation([count_up], servers=1) as computation, discoro.open_coro() as client:
        rcoro = await computation.run(count_up, client)
        pid = await client.receive()
        for _ in range(2):
            os.kill(pid, signal.SIGSTOP)
            with trio.move_on_after(3 * PULSE):
                await rcoro.wait()
            os.kill(pid, signal.SIGCONT)
            await rcoro.deliver(1)
        await rcoro.send(None)
        assert await rcoro.result() == 2


@pytest.mark.fault("F08")
@pytest.mark.spec("S54")
async def test_a_server_whose_thread_is_blocked_for_many_pulses_is_not_taken_for_dead(quick_pulses: None) -> None:
    async with open_computation([block, pid_of_server], servers=1) as computation, discoro.open_coro() as client:
        blocked = await computation.run(block, client, 8 * PULSE)
        pid = await client.receive()
        began = trio.current_time()
        behind = await computation.run(pid_of_server)
        assert await behind.result() == pid
        assert await blocked.result() == "over"
        assert trio.current_time() - began > 7 * PULSE


@pytest.mark.fault("F08")
async def test_a_server_whose_thread_is_blocked_is_shown_as_unresponsive_until_it_goes_on_or_is_ended(
    quick_pulses: None,
) -> None:
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2) as scheduler,
            discoro.Computation([block, pid_of_server]).schedule() as computation,
            discoro.open_coro() as client,
        ):
            await until_servers(computation, 2)
            blocked = await computation.run(block, client, 4)
            assert await until_unresponsive(scheduler, {blocked.location}) > 0
            (row,) = [row for row in (await scheduler.status()).servers if row.location == blocked.location]
            while not row.coroutines:  # it was blocked before it could report that it runs something
                await trio.sleep(PULSE / 10)
                (row,) = [row for row in (await scheduler.status()).servers if row.location == blocked.location]
            assert [one.coro for one in row.coroutines] == [blocked]
            assert f"unresponsive for {row.unresponsive:.0f} s" in status_as_table(await scheduler.status())
            assert blocked.location in await computation.servers()
            assert await blocked.result() == "over"
            await until_unresponsive(scheduler, set())
            blocked = await computation.run(block, client, 60)
            assert await until_unresponsive(scheduler, {blocked.location}) > 0
            await blocked.terminate(grace_period=0)
            with pytest.raises(discoro.ServerLost, match="did not end in its grace period"):
                await blocked.result()
            await until_servers(computation, 2)
            await until_unresponsive(scheduler, set())


async def until_unresponsive(scheduler: discoro.Scheduler, locations: set[discoro.Location]) -> float:
    """Wait until just these servers are shown as unresponsive; give for how long, all of them together."""
    while True:
        rows = [row for row in (await scheduler.status()).servers if row.unresponsive]
        if {row.location for row in rows} == locations:
            return sum(row.unresponsive for row in rows)
        await trio.sleep(0.02)


@pytest.mark.fault("F08")
@pytest.mark.spec("B03")
async def test_a_coroutine_that_blocks_its_thread_is_ended_by_force_and_its_neighbours_hear_why() -> None:
    async with open_computation([block, count_up, pid_of_server], servers=1) as computation, discoro.open_coro() as me:
        neighbour = await computation.run(count_up, me)
        pid = await me.receive()
        blocked = await computation.run(block, me, 60)
        assert await me.receive() == pid
        with within(2):
            await blocked.terminate(grace_period=0)
            for lost in (blocked, neighbour):
                with pytest.raises(discoro.ServerLost, match="did not end in its grace period"):
                    await lost.result()
            assert await computation.run_result(pid_of_server) != pid
