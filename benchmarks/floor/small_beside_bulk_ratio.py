"""What bulk data over another connection of the same two processes costs small messages over bare `ssl` sockets."""

from __future__ import annotations

from benchmarks.floor._beside_bulk import measure_beside_bulk


def measure(seconds: float) -> float:
    """Return the time of a round trip with bulk data as a multiple of the time without."""
    alone, beside = measure_beside_bulk(seconds)
    return beside / alone
