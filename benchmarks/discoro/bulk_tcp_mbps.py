"""64 MiB to a coroutine on a server, and back, over TCP as among machines but without TLS."""

from __future__ import annotations

import trio

import discoro_trio as discoro
from benchmarks._load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import echo


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""

    async def main() -> float:
        payload = bulk_payload()
        async with open_distant_computation(echo, tls=False) as computation, discoro.open_coro() as me:
            server = await computation.run(echo, me)

            async def round_trip(_: int) -> None:
                await server.send(payload)
                await me.receive()

            median = await median_seconds(round_trip, seconds=seconds)
            await server.terminate()
            return bulk_megabytes_per_second(median)

    return trio.run(main)
