"""Many jobs at once, one `submit` each."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks._scale import IN_FLIGHT, WARM_UP
from benchmarks.peers.process_pool._pool import increment, open_pool

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor


def measure(seconds: float) -> float:
    """Return jobs per second."""
    with open_pool() as pool:
        _submit(pool, seconds * WARM_UP)
        begun = perf_counter()
        jobs = _submit(pool, seconds)
        return jobs / (perf_counter() - begun)


def _submit(pool: ProcessPoolExecutor, seconds: float) -> int:
    deadline = perf_counter() + seconds
    room = threading.Semaphore(IN_FLIGHT)

    def done(_: Future[int]) -> None:
        room.release()

    jobs = 0
    while perf_counter() < deadline:
        room.acquire()
        pool.submit(increment, jobs).add_done_callback(done)
        jobs += 1
    for _ in range(IN_FLIGHT):
        room.acquire()
    return jobs
