"""The newcomer's program; see `_newcomer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joblib import Parallel, delayed

from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import WORKERS

if TYPE_CHECKING:
    import numpy as np


def collected(table: np.ndarray, job: int) -> object:
    """Run a job; return its error in place of a value."""
    try:
        return score(table, job)
    except ValueError as error:
        return error


def program(table: np.ndarray) -> list[object]:
    """Run it. joblib writes the array to a file that the workers map, and batches short jobs."""
    jobs = (delayed(collected)(table, job) for job in range(JOBS))
    found: list[object] = Parallel(n_jobs=WORKERS, verbose=1)(jobs)
    return found


def measure(_seconds: float) -> float:
    """Return the seconds from nothing to all results."""
    return seconds_of(program)
