"""One job at a time."""

from __future__ import annotations

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import MICROSECONDS, WORKERS
from benchmarks.peers.dask._cluster import increment, open_client


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""
    with open_client(workers=WORKERS) as client:

        def call(number: int) -> object:
            return client.submit(increment, number, pure=False).result()

        return median_seconds(call, seconds=seconds) * MICROSECONDS
