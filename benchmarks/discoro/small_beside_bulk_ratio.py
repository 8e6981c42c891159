"""What bulk data costs the small messages beside it over TLS: the 99th percentile with it and without."""

from __future__ import annotations

from benchmarks.discoro._beside_bulk import measure_beside_bulk


def measure(seconds: float) -> float:
    """Return the time of a round trip with bulk data as a multiple of the time without."""
    alone, beside = measure_beside_bulk(seconds)
    return beside / alone
