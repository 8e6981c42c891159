"""One job at a time, on a server that is reached over TCP without TLS."""

from __future__ import annotations

from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._jobs import measure_job
from benchmarks.discoro._remote import increment


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""
    return measure_job(open_distant_computation(increment, tls=False), seconds)
