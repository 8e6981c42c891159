"""joblib with its default backend, loky."""

from __future__ import annotations

from typing import TYPE_CHECKING

import joblib
from joblib import Parallel, delayed

from benchmarks._blocking_load import batches_per_second, median_seconds
from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import CHUNK, IN_FLIGHT, MAPPED, MICROSECONDS, WORKERS
from benchmarks.peer_systems._startup import startup
from benchmarks.peer_systems._work import increment

if TYPE_CHECKING:
    import numpy as np


def version() -> str:
    """Return the version of the system."""
    return str(joblib.__version__)


def jobs_per_s(seconds: float) -> float:
    """Call a `Parallel` that is kept open; each job is sent alone."""
    with Parallel(n_jobs=WORKERS, batch_size=1, pre_dispatch="all") as parallel:
        return batches_per_second(
            lambda: len(parallel(delayed(increment)(number) for number in range(IN_FLIGHT))), seconds=seconds
        )


def jobs_chunked_per_s(seconds: float) -> float:
    """Call a `Parallel` with a batch size."""
    with Parallel(n_jobs=WORKERS, batch_size=CHUNK) as parallel:
        return batches_per_second(
            lambda: len(parallel(delayed(increment)(number) for number in range(MAPPED))), seconds=seconds
        )


def job_latency_us(seconds: float) -> float:
    """Call a `Parallel` that is kept open with one job."""
    with Parallel(n_jobs=WORKERS, batch_size=1) as parallel:
        return median_seconds(lambda n: parallel([delayed(increment)(n)]), seconds=seconds) * MICROSECONDS


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_joblib", seconds)


def _collected(table: np.ndarray, job: int) -> object:
    """Run a job; return its error in place of a value."""
    try:
        return score(table, job)
    except ValueError as error:
        return error


def _newcomer(table: np.ndarray) -> list[object]:
    """Run it. joblib writes the array to a file that the workers map, and batches short jobs."""
    found: list[object] = Parallel(n_jobs=WORKERS, verbose=1)(delayed(_collected)(table, job) for job in range(JOBS))
    return found


def newcomer_s(_seconds: float) -> float:
    """Run the newcomer's program."""
    return seconds_of(_newcomer)
