"""What the client's process may do to itself and to the clock, and what strangers do to its listener."""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._link import serve_endpoint
from discoro_trio._wire import Credential
from discoro_trio.testing import check_leaks
from tests.client.clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

PULSE = 0.3
HOUR = 3600


@pytest.fixture
def quick_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discoro.config, "MinPulseInterval", PULSE)


async def count_up(*, coro: discoro.Coro[int]) -> int:
    """Count messages until one is None."""
    count = 0
    while await coro.receive() is not None:
        count += 1
    return count


async def double(number: int) -> int:
    return 2 * number


async def shift_clock(seconds: float) -> float:
    """Let the wall clock of this server jump."""
    import time  # noqa: PLC0415 - it is the server's own

    clock, clock_ns = time.time, time.time_ns
    time.time = lambda: clock() + seconds
    time.time_ns = lambda: clock_ns() + int(seconds * 10**9)
    return time.time()


@pytest.mark.fault("F26")
async def test_a_client_that_blocks_its_thread_for_many_pulses_loses_nothing(quick_pulses: None) -> None:
    async with open_computation([count_up, double]) as computation:
        rcoros = [await computation.run(count_up) for _ in range(4)]
        servers = set(await computation.servers())
        for _ in range(3):
            time.sleep(7 * PULSE)  # noqa: ASYNC251 - that is what is tested
            with trio.move_on_after(2 * PULSE):
                await rcoros[0].wait()
            for rcoro in rcoros:
                await rcoro.deliver(1)
        assert set(await computation.servers()) == servers
        for rcoro in rcoros:
            await rcoro.send(None)
        assert [await rcoro.result() for rcoro in rcoros] == [3] * 4
        assert await computation.run_results(double, range(10)) == [2 * number for number in range(10)]


@pytest.mark.fault("F22")
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_wall_clock_that_jumps_by_an_hour_ends_nothing(
    quick_pulses: None, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    async with open_computation([count_up, shift_clock]) as computation:
        rcoros = await computation.run_servers(count_up)
        servers = set(await computation.servers())
        clock, clock_ns = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        monkeypatch.setattr(time, "time_ns", lambda: clock_ns() + jump * 10**9)
        for rcoro in await computation.run_servers(shift_clock, jump):
            assert abs(await rcoro.result() - time.time()) < 60
        for _ in range(7):
            with trio.move_on_after(PULSE):
                await rcoros[0].wait()
            for rcoro in rcoros:
                await rcoro.deliver(1)
        assert set(await computation.servers()) == servers
        for rcoro in rcoros:
            await rcoro.send(None)
            assert await rcoro.result() == 7


@pytest.mark.fault("F21")
async def test_1000_connections_that_are_opened_and_broken_leave_nothing() -> None:
    key = Credential(b"", b"k" * 32)
    async with serve_endpoint() as here:
        here.credentials[b""] = key
        await greet_and_break(here.location, key, 1)
        threads = threading.active_count()
        async with check_leaks():
            for begin in range(0, 700, 50):
                async with trio.open_nursery() as nursery:
                    for number in range(begin, begin + 50):
                        nursery.start_soon(break_off, here.location, number)
            await greet_and_break(here.location, key, 300)
        assert threading.active_count() <= threads
        while here.links:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)


async def break_off(location: discoro.Location, number: int) -> None:
    """Open a connection and close it: at once, after a few bytes, after too many, or when the peer does."""
    async with await trio.open_tcp_stream(location.addr, location.port) as stream:
        if number % 4:
            await stream.send_all(b"\xff" * (1 if number % 4 == 1 else 1000))
        if number % 4 == 3:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some()


async def greet_and_break(location: discoro.Location, key: Credential, times: int) -> None:
    """Prove to know the secret, then end the connection without a goodbye."""
    async with serve_endpoint() as there:
        there.credentials[b""] = key
        for _ in range(times):
            link = await there.link_at(location)
            link.fail(discoro.PeerDisconnected("broken on purpose"))
            await link.ended.wait()
