"""Plain functions that wait for others of their kind, deeper than there are threads."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def depth(computation: Any, number: int) -> int:
    if number == 0:
        return 0
    below: int = trio.from_thread.run(computation.run_result, depth, computation, number - 1)
    return 1 + below


def depth_of_coroutines(computation: Any, number: int) -> int:
    async def below() -> int:
        coro = await computation.run(depth_of_coroutines, computation, number - 1)
        return await coro.result()  # type: ignore[no-any-return]

    return 0 if number == 0 else 1 + trio.from_thread.run(below)


def total(computation: Any, numbers: list[int]) -> int:
    if len(numbers) == 1:
        return numbers[0]
    middle = len(numbers) // 2
    parts = [numbers[:middle], numbers[middle:]]
    return sum(trio.from_thread.run(computation.run_results, partial(total, computation), parts))


async def compute(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await trio.lowlevel.checkpoint()


async def test_nested_plain_functions_need_no_thread_while_they_wait() -> None:
    functions = [depth, depth_of_coroutines, total, compute]
    async with open_computation(functions, servers=1, threads=4, seconds=100) as computation:
        assert await computation.run_result(depth, computation, 15) == 15
        assert await computation.run_result(depth_of_coroutines, computation, 10) == 10
        assert await computation.run_result(total, computation, list(range(16))) == sum(range(16))
        async with trio.open_nursery() as nursery:  # which uses the server's processor meanwhile
            nursery.start_soon(computation.run_result, compute, 600)
            assert await computation.run_result(depth, computation, 3) == 3
            nursery.cancel_scope.cancel()


async def test_no_more_plain_functions_than_threads_run_at_once() -> None:
    async with open_computation([time.sleep], servers=1, threads=2) as computation:
        start = time.monotonic()
        coros = [await computation.run(time.sleep, 0.3) for _ in range(4)]
        for coro in coros:
            await coro.result()
        assert time.monotonic() - start >= 0.6


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


@pytest.mark.spec("S91")
async def test_a_plain_function_that_waits_for_a_thread_is_listed_by_its_name(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with (
        discoro.open_cluster(servers=1) as scheduler,
        discoro.Computation([wait_for], threads=1).schedule() as computation,
        trio.open_nursery() as nursery,
    ):
        (server,) = await computation.servers()
        for _ in range(2):
            nursery.start_soon(computation.run_at, server, wait_for, str(go))
        listed: list[str] = []
        with trio.fail_after(60):
            while len(listed) < 2:
                await trio.sleep(0.05)
                listed = [one.name for row in (await scheduler.status()).servers for one in row.coroutines]
        go.touch()
    assert listed == ["wait_for", "wait_for"]
