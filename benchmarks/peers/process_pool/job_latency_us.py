"""One job at a time."""

from __future__ import annotations

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import MICROSECONDS
from benchmarks.peers.process_pool._pool import increment, open_pool


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""
    with open_pool() as pool:

        def call(number: int) -> int:
            return pool.submit(increment, number).result()

        return median_seconds(call, seconds=seconds) * MICROSECONDS
