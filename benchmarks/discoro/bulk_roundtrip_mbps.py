"""64 MiB to a coroutine on a server, and back."""

from __future__ import annotations

from benchmarks.discoro._bulk import measure_bulk
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import echo


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""
    return measure_bulk(open_computation(echo, servers=1), seconds)
