"""mpire's worker pool, whose workers are forked."""

from __future__ import annotations

from importlib import metadata

from mpire import WorkerPool

from benchmarks._blocking_load import batches_per_second, median_seconds, submitted_per_second
from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import CHUNK, MAPPED, MICROSECONDS, WORKERS
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment


def version() -> str:
    """Return the version of the system."""
    return metadata.version("mpire")


def jobs_per_s(seconds: float) -> float:
    """Apply one job after the other, so many in flight."""
    with WorkerPool(n_jobs=WORKERS) as pool:
        return submitted_per_second(
            lambda job, done: pool.apply_async(increment, (job,), callback=done), seconds=seconds
        )


def jobs_chunked_per_s(seconds: float) -> float:
    """Map in chunks, with workers that are kept alive."""
    with WorkerPool(n_jobs=WORKERS, keep_alive=True) as pool:
        return batches_per_second(
            lambda: sum(1 for _ in pool.imap(increment, range(MAPPED), chunk_size=CHUNK)), seconds=seconds
        )


def job_latency_us(seconds: float) -> float:
    """Apply one job and wait for it."""
    with WorkerPool(n_jobs=WORKERS) as pool:
        return median_seconds(lambda n: pool.apply(increment, (n,)), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_mpire", seconds)


def _collected(table: object, job: int) -> object:
    """Run a job; return its error in place of a value."""
    try:
        return score(table, job)  # type: ignore[arg-type]
    except ValueError as error:
        return error


def newcomer_s(_seconds: float) -> float:
    """Run the newcomer's program: the forked workers inherit the shared array."""

    def program(table: object) -> list[object]:
        with WorkerPool(n_jobs=WORKERS, shared_objects=table) as pool:
            found: list[object] = pool.map(_collected, range(JOBS), progress_bar=True)
            return found

    return seconds_of(program)
