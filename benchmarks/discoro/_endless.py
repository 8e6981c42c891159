"""Jobs that go on, one after the other and many at once, while something else is measured."""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import attrs
import trio

from benchmarks._scale import IN_FLIGHT, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import discoro_trio as discoro


@attrs.define
class Jobs:
    """Jobs of a computation."""

    computation: discoro.Computation
    count: int = 0
    """Those that have ended."""

    async def per_second(self, seconds: float) -> float:
        """Return how many end in a second, as seen in so many seconds."""
        count, begun = self.count, perf_counter()
        await trio.sleep(seconds)
        return (self.count - count) / (perf_counter() - begun)

    async def work(self) -> None:
        """Have one job done after the other."""
        while True:
            await self.computation.run_result(increment, self.count)
            self.count += 1


@asynccontextmanager
async def open_jobs() -> AsyncIterator[Jobs]:
    """Run jobs while the block lasts."""
    async with open_computation(increment, servers=WORKERS) as computation, trio.open_nursery() as nursery:
        await computation.run_results(increment, range(IN_FLIGHT))  # the servers are there
        jobs = Jobs(computation)
        for _ in range(IN_FLIGHT):
            nursery.start_soon(jobs.work)
        yield jobs
        nursery.cancel_scope.cancel()
