"""Work that waits: coroutines that wait are not held back, and jobs that have not begun can be cancelled."""

from __future__ import annotations

import os
import sys
import time
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._process import Call

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def receive(*, coro: discoro.Coro[int]) -> int:
    result: int = await coro.receive()
    return result


def compute_until(go: str) -> str:
    """Use a processor until a file is there."""
    while not os.path.exists(go):  # noqa: PTH110 - it runs at a server
        sum(range(1000))
    return "computed"


def nothing() -> str:
    return "done"


@pytest.mark.spec("B26", "S67")
async def test_coroutines_that_each_wait_for_a_later_one_all_begin() -> None:
    async with open_computation([receive], servers=2) as computation:
        coros = [await computation.run(receive) for _ in range(300)]
        for number, coro in reversed(list(enumerate(coros))):
            await coro.send(number)
        assert [await coro.result() for coro in coros] == [*range(300)]


async def meet_at_the_end(number: int, quick: int, folder: str) -> int:
    """Return at once; those that are not quick block their servers until two of them have begun."""
    if number >= quick:
        os.mkdir(f"{folder}/{number}")  # noqa: PTH102 - it runs at a server
        end = time.monotonic() + 30
        while len(os.listdir(folder)) < 2:  # noqa: PTH208 - it runs at a server
            assert time.monotonic() < end, "the other one waits behind this one"
            time.sleep(0.001)  # noqa: ASYNC251 - it blocks
    else:
        time.sleep(0.0003)  # noqa: ASYNC251 - a window holds several of them
    return number


def new_folders(parent: Path) -> Iterator[str]:
    """Make a folder for each of three attempts."""
    for attempt in range(3):
        folder = parent / str(attempt)
        folder.mkdir()
        yield str(folder)


@pytest.mark.spec("B26")
async def test_the_last_jobs_of_a_map_do_not_wait_behind_each_other_although_quick_ones_preceded(
    tmp_path: Path,
) -> None:
    async with open_computation([meet_at_the_end], servers=2, seconds=120) as computation:
        for folder in new_folders(tmp_path):
            items = [(number, 300, folder) for number in range(302)]
            async with computation.starmap(meet_at_the_end, items) as results:
                assert [value async for value in results] == [*range(302)]


@pytest.mark.spec("B26")
async def test_the_last_of_many_calls_do_not_wait_behind_each_other_although_quick_ones_preceded(
    tmp_path: Path,
) -> None:
    async with open_computation([meet_at_the_end], servers=2, seconds=120) as computation:
        for folder in new_folders(tmp_path):
            async with trio.open_nursery() as nursery:
                for number in range(602):
                    nursery.start_soon(computation.run_result, meet_at_the_end, number, 600, folder)
                    await trio.lowlevel.checkpoint()  # they begin in order


async def pass_on(rounds: int, last: int, *, coro: discoro.Coro[int]) -> int:
    """Send each number, up to the last one, to the next coroutine of a ring, whose handle comes first."""
    following: discoro.Coro[int] = await coro.receive()
    number = 0
    for _ in range(rounds):
        number = await coro.receive()
        if number < last:
            await following.send(number + 1)
    return number


@pytest.mark.spec("B26", "S67")
async def test_coroutines_that_exchange_messages_in_a_ring_all_begin() -> None:
    count, rounds = 400, 3
    last = rounds * count - 1
    async with open_computation([pass_on], servers=2, seconds=120) as computation:
        coros = [await computation.run(pass_on, rounds, last) for _ in range(count)]
        for coro, following in zip(coros, [*coros[1:], coros[0]], strict=True):
            await coro.send(following)
        await coros[0].send(0)
        assert await coros[-1].result() == last


@pytest.mark.spec("B26", "S67")
async def test_many_calls_that_sleep_all_begin_at_once() -> None:
    async with (
        open_computation([sleep_and_tell], servers=2, seconds=120) as computation,
        discoro.open_coro() as me,
        computation.open_nursery() as nursery,
    ):
        for _ in range(3000):
            nursery.start_soon(sleep_and_tell, me)
        for _ in range(3000):
            assert await me.receive() == "begun"
        nursery.cancel_scope.cancel()


async def sleep_and_tell(client: discoro.Coro[None]) -> None:
    await client.send("begun")
    await trio.sleep_forever()


@pytest.mark.spec("B26", "B03")
async def test_a_job_that_waits_behind_a_computing_one_can_be_cancelled(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with open_computation([compute_until, nothing], servers=1) as computation:
        first = await computation.run(compute_until, str(go))
        with trio.move_on_after(0.1) as scope:
            await computation.run_result(nothing)
        assert scope.cancelled_caught
        assert computation.statistics().waiting == 0
        go.touch()
        assert await first.result() == "computed"
        assert await computation.run_result(nothing) == "done"


@pytest.mark.spec("B26")
async def test_a_plain_job_waits_at_the_client_while_those_at_the_servers_compute(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with open_computation([compute_until, nothing], servers=1) as computation:
        session = computation._session
        assert session is not None
        first = await computation.run(compute_until, str(go))
        second = session.submit(Call(nothing, (), {}, session.set_up.shipped))
        await trio.sleep(0.1)  # the server measures over milliseconds
        assert not second.serial
        go.touch()
        assert await first.result() == "computed"
        await second.until_ended()


@pytest.mark.spec("B26")
async def test_a_start_that_waits_at_a_server_can_be_taken_back_and_runs_once(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with open_computation([compute_until, nothing], servers=1) as computation:
        session = computation._session
        assert session is not None
        (server,) = session.servers.values()
        shipped = session.set_up.shipped
        first = session.submit(Call(compute_until, (str(go),), {}, shipped), acknowledge=True)
        await first.until_begun()
        call = Call(nothing, (), {}, shipped)
        assert server.place is not None
        second = session._start(server, server.place, perf_counter(), call, acknowledge=False)
        second.call = (call, False, None)
        serial = second.serial
        first.revoked = second.revoked = True
        server.host.revoke([second, first])
        while second.serial == serial and second.place is not None:  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.005)
        assert (first.outcome, second.outcome) == (None, None)
        go.touch()
        for started, expected in ((first, "computed"), (second, "done")):
            await started.until_ended()
            assert started.outcome is not None
            assert started.outcome.value() == expected
        assert computation.statistics().submitted == 2
