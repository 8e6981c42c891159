"""A new computation on warm nodes: from its turn to its first result."""

from __future__ import annotations

import statistics
import time

import trio

import discoro_trio as discoro
from benchmarks._scale import WORKERS
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return the median of the seconds from the turn of a computation to its first result."""

    async def first_result() -> float:
        async with discoro.Computation([increment]).schedule() as computation:
            started = time.perf_counter()
            await computation.run_result(increment, 1)
            return time.perf_counter() - started

    async def main() -> float:
        async with discoro.open_cluster(servers=WORKERS) as scheduler:
            found: list[float] = []
            end = trio.current_time() + seconds
            while not found or trio.current_time() < end:
                while not (await scheduler.status()).servers:  # noqa: ASYNC110 - reports come by time
                    await trio.sleep(0.01)
                await trio.sleep(1)  # the servers of the computation before are being replaced
                found.append(await first_result())
            return statistics.median(found)

    return trio.run(main)
