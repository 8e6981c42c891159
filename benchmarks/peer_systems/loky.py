"""loky's reusable executor."""

from __future__ import annotations

import loky
from loky import get_reusable_executor

from benchmarks._blocking_load import batches_per_second, median_seconds, submitted_per_second
from benchmarks._scale import CHUNK, MAPPED, MICROSECONDS, WORKERS
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment


def version() -> str:
    """Return the version of the system."""
    return str(loky.__version__)


def jobs_per_s(seconds: float) -> float:
    """Submit one job after the other, so many in flight."""
    executor = get_reusable_executor(max_workers=WORKERS)
    return submitted_per_second(
        lambda job, done: executor.submit(increment, job).add_done_callback(done), seconds=seconds
    )


def jobs_chunked_per_s(seconds: float) -> float:
    """Map in chunks."""
    executor = get_reusable_executor(max_workers=WORKERS)
    return batches_per_second(
        lambda: sum(1 for _ in executor.map(increment, range(MAPPED), chunksize=CHUNK)), seconds=seconds
    )


def job_latency_us(seconds: float) -> float:
    """Submit one job and wait for it."""
    executor = get_reusable_executor(max_workers=WORKERS)
    return median_seconds(lambda n: executor.submit(increment, n).result(), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_loky", seconds)
