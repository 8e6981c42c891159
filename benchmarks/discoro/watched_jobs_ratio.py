"""Jobs with a monitor at which fifty browsers look, one of which never reads, as a part of those without.

The browsers are on the same machine, and its speed changes: this is what is seen, and `monitor_cost_percent` tells
the monitor's part of it.
"""

from __future__ import annotations

import statistics
from time import perf_counter

import trio

from benchmarks.discoro._endless import open_jobs
from benchmarks.discoro._watched import open_browsers

LONGER = 12
"""It goes on so many times as long as other figures do, as the machine's speed changes by more than what is seen."""
TURN = 0.5
"""Seconds with and without, in turns."""


def measure(seconds: float) -> float:
    """Return jobs a second with a monitor as a part of those without."""

    async def main() -> float:
        async with open_jobs() as jobs, open_browsers() as browsers:
            await trio.sleep(TURN)
            ratios: list[float] = []
            end = perf_counter() + LONGER * seconds
            before = await jobs.per_second(TURN)
            while not ratios or perf_counter() < end:
                async with browsers.watching(jobs.computation):
                    await trio.sleep(TURN)
                    watched = await jobs.per_second(TURN)
                after = await jobs.per_second(TURN)
                ratios.append(2 * watched / (before + after))
                before = after
            return statistics.median(ratios)

    return trio.run(main)
