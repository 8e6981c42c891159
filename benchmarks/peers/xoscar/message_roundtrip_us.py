"""A call of an actor that gives back its argument."""

from __future__ import annotations

import asyncio

from benchmarks._load import median_seconds
from benchmarks._scale import MICROSECONDS
from benchmarks.peers.xoscar._pool import open_actor


def measure(seconds: float) -> float:
    """Return the median of one round trip in microseconds."""

    async def main() -> float:
        async with open_actor() as actor:
            return await median_seconds(actor.echo, seconds=seconds) * MICROSECONDS

    return asyncio.run(main())
