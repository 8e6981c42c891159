"""Where the next coroutine goes, among 10,000 simulated servers of 1,000 nodes."""

from __future__ import annotations

from benchmarks._scale import MICROSECONDS
from benchmarks.discoro._placed import seconds_a_job

SERVERS = 10_000


def measure(seconds: float) -> float:
    """Return the microseconds of placing one coroutine and of noting its end."""
    return seconds_a_job(SERVERS, seconds=seconds) * MICROSECONDS
