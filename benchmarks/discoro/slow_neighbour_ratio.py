"""What a slow receiver costs a fast one beside it, on the same connection: messages a second with it and without."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import count, dawdle

if TYPE_CHECKING:
    import discoro_trio as discoro

TURNS = 6
"""The measurements with and without, in turns: a machine that is busy for a while costs both the same."""

BETWEEN_LOOKS = 1024
"""Messages between two looks at the clock."""


def measure(seconds: float) -> float:
    """Return the rate with a slow neighbour as a part of the rate without."""

    async def main() -> float:
        async with open_computation(count, dawdle, servers=1) as computation:
            await _rate(computation, seconds * WARM_UP)
            alone, beside = [], []
            for _ in range(TURNS // 2):
                alone.append(await _rate(computation, seconds / TURNS))
                beside.append(await _rate_beside_a_slow_one(computation, seconds / TURNS))
            return statistics.median(beside) / statistics.median(alone)

    return trio.run(main)


async def _rate_beside_a_slow_one(computation: discoro.Computation, seconds: float) -> float:
    slow = await computation.run(dawdle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_flood, slow)
        rate = await _rate(computation, seconds)
        nursery.cancel_scope.cancel()
    await slow.terminate()
    return rate


async def _flood(receiver: discoro.Coro[None]) -> None:
    while True:
        await receiver.send(0)


async def _rate(computation: discoro.Computation, seconds: float) -> float:
    receiver = await computation.run(count)
    begun = perf_counter()
    while perf_counter() < begun + seconds:
        for number in range(BETWEEN_LOOKS):
            await receiver.send(number)
    await receiver.send(None)
    return await receiver.result() / (perf_counter() - begun)
