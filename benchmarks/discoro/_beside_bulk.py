"""Small messages there and back over TLS, alone, and while the same process sends bulk data to the same server."""

from __future__ import annotations

import statistics
from time import perf_counter

import trio

import discoro_trio as discoro
from benchmarks._scale import BETWEEN_SMALL, FEWEST, MICROSECONDS, WARM_UP, bulk_payload
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import count, echo


def measure_beside_bulk(seconds: float) -> tuple[float, float]:
    """Return the 99th percentile of a round trip in microseconds: alone, and beside bulk data."""

    async def main() -> tuple[float, float]:
        payload = bulk_payload()
        async with open_distant_computation(echo, count) as computation, discoro.open_coro() as me:
            small, bulk = await computation.run(echo, me), await computation.run(count)

            async def slowest(duration: float) -> float:
                trips: list[float] = []
                end = perf_counter() + duration
                while len(trips) < FEWEST or perf_counter() < end:
                    begun = perf_counter()
                    await small.send(0)
                    await me.receive()
                    trips.append(perf_counter() - begun)
                    await trio.sleep(BETWEEN_SMALL)
                return statistics.quantiles(trips, n=100)[-1] * MICROSECONDS

            async def send_bulk() -> None:
                while True:
                    await bulk.send(payload)

            await slowest(max(seconds * WARM_UP, 0.1))
            alone = await slowest(max(seconds, 0.1))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_bulk)
                beside = await slowest(max(seconds, 0.1))
                nursery.cancel_scope.cancel()
            await small.terminate()
            await bulk.terminate()
            return alone, beside

    return trio.run(main)
