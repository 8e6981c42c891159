"""One job at a time."""

from __future__ import annotations

from benchmarks._scale import WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._jobs import measure_job
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""
    return measure_job(open_computation(increment, servers=WORKERS), seconds)
