"""One job at a time on bare Trio."""

from __future__ import annotations

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import MICROSECONDS, WORKERS
from benchmarks.floor._client import open_job_loop


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""

    async def main() -> float:
        async with open_job_loop(workers=WORKERS) as call:
            return await median_seconds(call, seconds=seconds) * MICROSECONDS

    return trio.run(main)
