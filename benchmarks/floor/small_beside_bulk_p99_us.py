"""A small message there and back over bare `ssl` sockets beside bulk data over others: the 99th percentile."""

from __future__ import annotations

from benchmarks.floor._beside_bulk import measure_beside_bulk


def measure(seconds: float) -> float:
    """Return microseconds."""
    return measure_beside_bulk(seconds)[1]
