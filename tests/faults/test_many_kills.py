"""Servers that are killed again and again under thousands of jobs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio.testing import open_process_killer
from tests.client.clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio.testing import ProcessKiller

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

JOBS, KILLS = 5000, 100


async def square(number: int) -> int:
    """Take 20 ms and, now and then, five times as long."""
    await trio.sleep(0.1 if number % 50 == 0 else 0.02)
    return number * number


def note(path: Path) -> None:
    """Add one letter to a file."""
    with path.open("a") as file:
        file.write("x")


async def crash(folder: str, how: str) -> None:
    """Note the attempt, and end the server in one of several ways."""
    import ctypes  # noqa: PLC0415 - it is a server's

    note(Path(folder, how))
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGABRT)


async def numbers(killer: ProcessKiller) -> AsyncIterator[int]:
    """Give the jobs, no faster than servers die, so that all of them die while there are jobs."""
    for number in range(JOBS):
        await killer.until(number * KILLS // JOBS)
        yield number


@pytest.mark.fault("F05")
@pytest.mark.spec("B12")
@pytest.mark.parametrize("seed", range(10))
async def test_5000_jobs_under_100_kills_all_give_their_values_once(seed: int) -> None:
    values: list[int] = []
    async with (
        open_computation([square], seconds=60) as computation,
        open_process_killer(seed=seed, most=KILLS, pause=0.03) as killer,
        computation.map(square, numbers(killer), retries=100, limit=64) as results,
    ):
        async for value in results:
            values.append(value)  # noqa: PERF401 - what came before a failure is to be seen
    assert values == [number * number for number in range(JOBS)]
    assert killer.kills == KILLS


@pytest.mark.fault("F06")
@pytest.mark.spec("B12")
@pytest.mark.parametrize("how", ["exit", "segfault", "abort"])
async def test_a_poison_job_is_given_up_after_4_attempts_and_the_others_complete(how: str, tmp_path: Path) -> None:
    async def run_others(computation: discoro.Computation) -> None:
        async with computation.map(square, range(200), retries=3) as results:
            assert [value async for value in results] == [number * number for number in range(200)]

    async with open_computation([square, crash, note]) as computation:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_others, computation)
            with pytest.raises(ExceptionGroup) as caught:
                async with computation.starmap(crash, [(str(tmp_path), how)], retries=3) as results:
                    _ = [value async for value in results]
        (lost,) = caught.value.exceptions
        assert isinstance(lost, discoro.ServerLost)
        expected = {"exit": (7, None), "segfault": (None, signal.SIGSEGV), "abort": (None, signal.SIGABRT)}
        assert (lost.exitcode, lost.signal) == expected[how]
    assert len((tmp_path / how).read_text()) == 4
