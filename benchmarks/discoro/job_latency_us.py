"""One job at a time."""

from __future__ import annotations

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import MICROSECONDS, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""

    async def main() -> float:
        async with open_computation(increment, servers=WORKERS) as computation:

            async def call(argument: int) -> int:
                return await computation.run_result(increment, argument)

            return await median_seconds(call, seconds=seconds) * MICROSECONDS

    return trio.run(main)
