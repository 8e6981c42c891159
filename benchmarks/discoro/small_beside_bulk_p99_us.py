"""A small message there and back over TLS beside bulk data: the 99th percentile."""

from __future__ import annotations

from benchmarks.discoro._beside_bulk import measure_beside_bulk


def measure(seconds: float) -> float:
    """Return microseconds."""
    return measure_beside_bulk(seconds)[1]
