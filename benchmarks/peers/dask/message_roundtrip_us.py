"""A call of an actor that gives back its argument."""

from __future__ import annotations

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import MICROSECONDS
from benchmarks.peers.dask._cluster import open_actor


def measure(seconds: float) -> float:
    """Return the median of one round trip in microseconds."""
    with open_actor() as actor:

        def round_trip(number: int) -> object:
            return actor.echo(number).result()

        return median_seconds(round_trip, seconds=seconds) * MICROSECONDS
