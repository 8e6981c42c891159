"""A message to a coroutine on a server, and its answer back."""

from __future__ import annotations

import trio

from benchmarks._scale import MICROSECONDS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import echo
from benchmarks.discoro._round_trips import median_round_trip


def measure(seconds: float) -> float:
    """Return the median of one round trip in microseconds."""

    async def main() -> float:
        return await median_round_trip(open_computation(echo, servers=1), int, seconds=seconds) * MICROSECONDS

    return trio.run(main)
