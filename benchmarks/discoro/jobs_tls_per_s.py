"""Many jobs at once, one call each, on a server that is reached over TLS."""

from __future__ import annotations

from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._jobs import measure_jobs
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return jobs per second."""
    return measure_jobs(open_distant_computation(increment), seconds)
