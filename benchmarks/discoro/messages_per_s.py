"""Messages one way to a coroutine on a server, one `send` each."""

from __future__ import annotations

from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._flood import measure_flood
from benchmarks.discoro._remote import count


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""
    return measure_flood(open_computation(count, servers=1), seconds)
