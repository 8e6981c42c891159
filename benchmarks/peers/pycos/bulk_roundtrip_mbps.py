"""64 MiB to a remote task, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.peers.pycos._echo import median_round_trip
from benchmarks.peers.pycos._node import measure_with_client
from benchmarks.peers.pycos._remote import echo

if TYPE_CHECKING:
    from collections.abc import Generator


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""
    return measure_with_client(_figure, echo, seconds=seconds, servers=1)


def _figure(client: Any, seconds: float, task: Any) -> Generator[Any, Any, float]:
    median = yield from median_round_trip(client, bulk_payload(), seconds, task)
    return bulk_megabytes_per_second(median)
