"""Many jobs at once, one call each."""

from __future__ import annotations

import trio

from benchmarks._load import calls_per_second
from benchmarks._scale import IN_FLIGHT, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return jobs per second."""

    async def main() -> float:
        async with open_computation(increment, servers=WORKERS) as computation:

            async def call(argument: int) -> int:
                return await computation.run_result(increment, argument)

            return await calls_per_second(call, in_flight=IN_FLIGHT, seconds=seconds)

    return trio.run(main)
