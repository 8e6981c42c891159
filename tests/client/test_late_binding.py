"""Work that waits: coroutines that wait are not held back, and jobs that have not begun can be cancelled."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._process import Call

from .clusters import open_computation

if TYPE_CHECKING:
    from pathlib import Path

    import discoro_trio as discoro

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
async def test_a_start_that_waits_at_a_server_can_be_taken_back_and_runs_once(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with open_computation([compute_until, nothing], servers=1) as computation:
        session = computation._session
        assert session is not None
        (server,) = session.servers.values()
        shipped = session.set_up.shipped
        first = session.submit(Call(compute_until, (str(go),), {}, shipped), acknowledge=True)
        await first.until_begun()
        second = session.submit(Call(nothing, (), {}, shipped))
        while not second.serial:  # noqa: ASYNC110 - it waits here until the server has reported the first one
            await trio.sleep(0.005)
        serial = second.serial
        first.revoked = second.revoked = True
        server.host.revoke([second, first])
        while second.serial == serial:  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.005)
        assert (first.outcome, second.outcome) == (None, None)
        go.touch()
        for started, expected in ((first, "computed"), (second, "done")):
            await started.until_ended()
            assert started.outcome is not None
            assert started.outcome.value() == expected
        assert computation.statistics().submitted == 2
