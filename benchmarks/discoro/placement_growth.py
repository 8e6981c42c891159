"""What 10,000 servers instead of 20 do to the time of a placement."""

from __future__ import annotations

from benchmarks.discoro._placed import seconds_a_job

FEW, MANY = 20, 10_000
"""On two nodes and on a thousand: with one there would be nothing to choose between."""


def measure(seconds: float) -> float:
    """Return the time of one placement among many servers, as a multiple of that among few."""
    return seconds_a_job(MANY, seconds=seconds / 2) / seconds_a_job(FEW, seconds=seconds / 2)
