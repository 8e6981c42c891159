"""The newcomer's program; see `_newcomer`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import distributed

from benchmarks._newcomer import JOBS, score, seconds_of
from benchmarks._scale import WORKERS
from benchmarks.peers.dask._cluster import open_client

if TYPE_CHECKING:
    import numpy as np


def program(table: np.ndarray) -> list[object]:
    """Run it."""
    with open_client(workers=WORKERS) as client:
        shared = client.scatter(table, broadcast=True)
        futures = client.map(score, [shared] * JOBS, range(JOBS))
        for done, _ in enumerate(distributed.as_completed(futures)):
            print(f"\r{done + 1}/{JOBS}", end="", file=sys.stderr)
        return [future.exception() or future.result() for future in futures]


def measure(_seconds: float) -> float:
    """Return the seconds from nothing to all results."""
    return seconds_of(program)
