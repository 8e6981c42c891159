"""A map in chunks, in order."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks._scale import CHUNK, MAPPED, WARM_UP
from benchmarks.peers.process_pool._pool import increment, open_pool

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor


def measure(seconds: float) -> float:
    """Return jobs per second."""
    with open_pool() as pool:
        _map_again_and_again(pool, seconds * WARM_UP)
        begun = perf_counter()
        jobs = _map_again_and_again(pool, seconds)
        return jobs / (perf_counter() - begun)


def _map_again_and_again(pool: ProcessPoolExecutor, seconds: float) -> int:
    deadline = perf_counter() + seconds
    done = 0
    while perf_counter() < deadline:
        for _ in pool.map(increment, range(MAPPED), chunksize=CHUNK):
            done += 1
    return done
