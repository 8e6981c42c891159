"""64 MiB to an actor that gives back its argument."""

from __future__ import annotations

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.peers.dask._cluster import open_actor


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""
    payload = bulk_payload()
    with open_actor() as actor:

        def round_trip(_: int) -> object:
            return actor.echo(payload).result()

        return bulk_megabytes_per_second(median_seconds(round_trip, seconds=seconds))
