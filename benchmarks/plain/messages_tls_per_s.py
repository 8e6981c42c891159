"""Messages one way to a coroutine on a server, one `send` each, over TCP without TLS."""

from __future__ import annotations

from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._flood import measure_flood
from benchmarks.discoro._remote import count


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""
    return measure_flood(open_distant_computation(count, tls=False), seconds)
