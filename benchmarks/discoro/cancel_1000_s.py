"""Cancelling 1,000 remote coroutines, and waiting until all of them have cleaned up."""

from __future__ import annotations

import statistics
from time import perf_counter

import trio

from benchmarks._scale import WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import clean_up_when_cancelled

COROUTINES = 1000
AT_LEAST = 3
"""Times that it is done, however long that takes."""


def measure(seconds: float) -> float:
    """Return the median of the seconds from the cancel to the end of the last clean-up."""
    return trio.run(_main, seconds)


async def _main(seconds: float) -> float:
    taken: list[float] = []
    begun = perf_counter()
    async with open_computation(clean_up_when_cancelled, servers=WORKERS) as computation:
        while len(taken) < AT_LEAST or perf_counter() - begun < seconds:
            async with computation.open_nursery() as nursery:
                for _ in range(COROUTINES):
                    nursery.start_soon(clean_up_when_cancelled)
                # What it gives exists only after all that were started before it at its server.
                for location in await computation.servers():
                    await nursery.run_at(location, clean_up_when_cancelled)
                cancelled = perf_counter()
                nursery.cancel_scope.cancel()
            taken.append(perf_counter() - cancelled)
    return statistics.median(taken)
