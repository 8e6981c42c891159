"""ProcessPoolExecutor of the standard library, with as many workers as the others have."""

from __future__ import annotations

import platform
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks._blocking_load import batches_per_second, median_seconds, submitted_per_second
from benchmarks._scale import CHUNK, MAPPED, MICROSECONDS, WORKERS
from benchmarks._uneven import plain_work, timed_sets
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from benchmarks._uneven import Job


def version() -> str:
    """Return the version of the system."""
    return platform.python_version()


@contextmanager
def open_pool(*, workers: int = WORKERS) -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers have all started."""
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(increment, range(workers * 10)))
        yield pool


def jobs_per_s(seconds: float) -> float:
    """Submit one job after the other, so many in flight."""
    with open_pool() as pool:
        return submitted_per_second(
            lambda job, done: pool.submit(increment, job).add_done_callback(done), seconds=seconds
        )


def jobs_chunked_per_s(seconds: float) -> float:
    """Map in chunks."""
    with open_pool() as pool:
        return batches_per_second(
            lambda: sum(1 for _ in pool.map(increment, range(MAPPED), chunksize=CHUNK)), seconds=seconds
        )


def job_latency_us(seconds: float) -> float:
    """Submit one job and wait for it."""
    with open_pool() as pool:
        return median_seconds(lambda n: pool.submit(increment, n).result(), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_process_pool", seconds)


_shared: list[Any] = []


def _keep(table: np.ndarray) -> None:
    """Keep the array in a worker, the only way to hand it to jobs once."""
    _shared.append(table)


def _score_shared(job: int) -> float:
    from benchmarks._newcomer import score  # noqa: PLC0415 - numpy is needed for this alone

    return score(_shared[0], job)


def _newcomer(table: np.ndarray) -> list[object]:
    from benchmarks._newcomer import JOBS  # noqa: PLC0415 - numpy is needed for this alone

    found: list[object] = [None] * JOBS
    with ProcessPoolExecutor(WORKERS, initializer=_keep, initargs=(table,)) as pool:
        futures = {pool.submit(_score_shared, job): job for job in range(JOBS)}
        for done, future in enumerate(as_completed(futures)):
            found[futures[future]] = future.exception() or future.result()
            print(f"\r{done + 1}/{JOBS}", end="", file=sys.stderr)
    return found


def newcomer_s(_seconds: float) -> float:
    """Run the newcomer's program."""
    from benchmarks._newcomer import seconds_of  # noqa: PLC0415 - numpy is needed for this alone

    return seconds_of(_newcomer)


def uneven(workers: int, sets: list[list[Job]], asleep: bool) -> list[list[float]]:  # noqa: FBT001 - from a request
    """Submit the jobs of a set and get their results."""
    with open_pool(workers=workers) as pool:

        def run_all(items: list[tuple[str, float, bool]]) -> list[float]:
            return [future.result() for future in [pool.submit(plain_work, *item) for item in items]]

        return timed_sets(run_all, sets, asleep=asleep)
