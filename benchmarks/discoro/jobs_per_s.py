"""Many jobs at once, one call each."""

from __future__ import annotations

from benchmarks._scale import WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._jobs import measure_jobs
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return jobs per second."""
    return measure_jobs(open_computation(increment, servers=WORKERS), seconds)
