"""64 MiB to a coroutine on a server, and back, under TLS."""

from __future__ import annotations

from benchmarks.discoro._bulk import measure_bulk
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import echo


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""
    return measure_bulk(open_distant_computation(echo), seconds)
