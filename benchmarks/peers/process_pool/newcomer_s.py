"""The newcomer's program; see `_newcomer`."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING

from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import WORKERS

if TYPE_CHECKING:
    import numpy as np

shared: np.ndarray


def keep(table: np.ndarray) -> None:
    """Keep the array in a worker."""
    global shared  # noqa: PLW0603 - the only way to hand it to jobs once
    shared = table


def run(job: int) -> float:
    """Run a job."""
    return score(shared, job)


def program(table: np.ndarray) -> list[object]:
    """Run it."""
    found: list[object] = [None] * JOBS
    with ProcessPoolExecutor(WORKERS, initializer=keep, initargs=(table,)) as pool:
        futures = {pool.submit(run, job): job for job in range(JOBS)}
        for done, future in enumerate(as_completed(futures)):
            found[futures[future]] = future.exception() or future.result()
            print(f"\r{done + 1}/{JOBS}", end="", file=sys.stderr)
    return found


def measure(_seconds: float) -> float:
    """Return the seconds from nothing to all results."""
    return seconds_of(program)
