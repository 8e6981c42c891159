"""Many jobs at once on bare Trio."""

from __future__ import annotations

import trio

from benchmarks._load import calls_per_second
from benchmarks._scale import IN_FLIGHT, WORKERS
from benchmarks.floor._client import open_job_loop


def measure(seconds: float) -> float:
    """Return jobs per second."""

    async def main() -> float:
        async with open_job_loop(workers=WORKERS) as call:
            return await calls_per_second(call, in_flight=IN_FLIGHT, seconds=seconds)

    return trio.run(main)
