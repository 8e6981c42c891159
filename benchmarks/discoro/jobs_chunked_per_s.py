"""A map in chunks, in order."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import CHUNK, MAPPED, WARM_UP, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment_plainly

if TYPE_CHECKING:
    import discoro_trio as discoro


def measure(seconds: float) -> float:
    """Return jobs per second."""

    async def main() -> float:
        async with open_computation(increment_plainly, servers=WORKERS) as computation:
            await _map_again_and_again(computation, seconds * WARM_UP)
            begun = perf_counter()
            jobs = await _map_again_and_again(computation, seconds)
            return jobs / (perf_counter() - begun)

    return trio.run(main)


async def _map_again_and_again(computation: discoro.Computation, seconds: float) -> int:
    deadline = perf_counter() + seconds
    done = 0
    while perf_counter() < deadline:
        mapping = computation.map(increment_plainly, range(MAPPED), chunksize=CHUNK)
        async with mapping as results:
            async for _ in results:
                done += 1
    return done
