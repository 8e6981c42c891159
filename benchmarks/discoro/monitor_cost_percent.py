"""What the monitor costs a computation whose jobs are many and short: fifty browsers look on, and one never reads."""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

import discoro_trio as discoro
from benchmarks._scale import IN_FLIGHT, WARM_UP, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TURNS = 20
"""Measurements with and without, in turns: a machine that is busy for a while costs both the same."""

_TOKEN = "a-token-for-figures"  # noqa: S105 - it protects nothing


def measure(seconds: float) -> float:
    """Return by how many percent a job takes more of this process's processor time."""

    async def main() -> float:
        async with open_computation(increment, servers=WORKERS) as computation:
            await _cost_of_a_job(computation, seconds * WARM_UP)
            ratios = []
            for _ in range(TURNS // 2):
                alone = await _cost_of_a_job(computation, seconds / TURNS)
                async with _watched(computation):
                    watched = await _cost_of_a_job(computation, seconds / TURNS)
                ratios.append(watched / alone)
            return 100 * (statistics.median(ratios) - 1)

    return trio.run(main)


@asynccontextmanager
async def _watched(computation: discoro.Computation) -> AsyncIterator[None]:
    async with discoro.open_http_server(computation, port=0, token=_TOKEN) as server:
        command = [sys.executable, "-m", "benchmarks.discoro._browsers", str(urlsplit(server.url).port)]
        async with trio.open_nursery() as nursery:
            browsers = await nursery.start(
                partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            await browsers.stdout.receive_some()  # they are ready
            yield
            await browsers.stdin.aclose()


async def _cost_of_a_job(computation: discoro.Computation, seconds: float) -> float:
    """Return seconds of processor time a job, with `IN_FLIGHT` under way at once."""
    count = 0
    deadline, before = perf_counter() + seconds, process_time()

    async def caller() -> None:
        nonlocal count
        while perf_counter() < deadline:
            await computation.run_result(increment, count)
            count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(caller)
    return (process_time() - before) / count
