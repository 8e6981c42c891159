"""loky's reusable executor."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

import loky
from loky import get_reusable_executor

from benchmarks._blocking_load import median_seconds, per_second
from benchmarks._scale import CHUNK, IN_FLIGHT, MAPPED, MICROSECONDS, WORKERS
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment

if TYPE_CHECKING:
    from concurrent.futures import Future


def version() -> str:
    """Return the version of the system."""
    return str(loky.__version__)


def jobs_per_s(seconds: float) -> float:
    """Submit one job after the other, so many in flight."""
    executor = get_reusable_executor(max_workers=WORKERS)

    def work(deadline: float) -> int:
        room = threading.Semaphore(IN_FLIGHT)

        def done(_: Future[int]) -> None:
            room.release()

        jobs = 0
        while perf_counter() < deadline:
            room.acquire()
            executor.submit(increment, jobs).add_done_callback(done)
            jobs += 1
        for _ in range(IN_FLIGHT):
            room.acquire()
        return jobs

    return per_second(work, seconds=seconds)


def jobs_chunked_per_s(seconds: float) -> float:
    """Map in chunks."""
    executor = get_reusable_executor(max_workers=WORKERS)

    def work(deadline: float) -> int:
        done = 0
        while perf_counter() < deadline:
            done += sum(1 for _ in executor.map(increment, range(MAPPED), chunksize=CHUNK))
        return done

    return per_second(work, seconds=seconds)


def job_latency_us(seconds: float) -> float:
    """Submit one job and wait for it."""
    executor = get_reusable_executor(max_workers=WORKERS)
    return median_seconds(lambda n: executor.submit(increment, n).result(), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_loky", seconds)
