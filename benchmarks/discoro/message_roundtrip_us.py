"""A message to a coroutine on a server, and its answer back."""

from __future__ import annotations

import trio

import discoro_trio as discoro
from benchmarks._load import median_seconds
from benchmarks._scale import MICROSECONDS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import echo


def measure(seconds: float) -> float:
    """Return the median of one round trip in microseconds."""

    async def main() -> float:
        async with open_computation(echo, servers=1) as computation, discoro.open_coro() as me:
            server = await computation.run(echo, me)

            async def round_trip(number: int) -> None:
                await server.send(number)
                await me.receive()

            median = await median_seconds(round_trip, seconds=seconds)
            await server.terminate()
            return median * MICROSECONDS

    return trio.run(main)
