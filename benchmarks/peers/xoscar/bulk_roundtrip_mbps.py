"""64 MiB to an actor that gives back its argument."""

from __future__ import annotations

import asyncio

from benchmarks._load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.peers.xoscar._pool import open_actor


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""

    async def main() -> float:
        payload = bulk_payload()
        async with open_actor() as actor:

            async def round_trip(_: int) -> None:
                await actor.echo(payload)

            return bulk_megabytes_per_second(await median_seconds(round_trip, seconds=seconds))

    return asyncio.run(main())
