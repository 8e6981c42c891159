"""The newcomer's program; see `_newcomer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discoro_trio as discoro
from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import WORKERS

if TYPE_CHECKING:
    import numpy as np


def program(table: np.ndarray) -> list[object]:
    """Run it."""
    with discoro.connect(servers=WORKERS) as cluster:
        shared = cluster.share(table)
        jobs = cluster.map(lambda job: score(shared.value, job), range(JOBS), errors="collect", progress=True)
        return list(jobs)


def measure(_seconds: float) -> float:
    """Return the seconds from nothing to all results."""
    return seconds_of(program)
