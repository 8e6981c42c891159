"""Messages one way to a coroutine on a server, one `send` each: tuples, dicts, lists and small dataclasses in turn."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import Point, count

if TYPE_CHECKING:
    import discoro_trio as discoro

BETWEEN_LOOKS = 256
"""Rounds of messages, one of each type, between two looks at the clock."""


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""

    async def main() -> float:
        async with open_computation(count, Point, servers=1) as computation:
            await _send(computation, seconds * WARM_UP)
            begun = perf_counter()
            counted = await _send(computation, seconds)
            return counted / (perf_counter() - begun)

    return trio.run(main)


async def _send(computation: discoro.Computation, seconds: float) -> int:
    deadline = perf_counter() + seconds
    receiver = await computation.run(count)
    while perf_counter() < deadline:
        for number in range(BETWEEN_LOOKS):
            await receiver.send((number, "text"))
            await receiver.send({"number": number, "text": "text"})
            await receiver.send([number, 2.5, "text"])
            await receiver.send(Point(number, 2.5))
    await receiver.send(None)
    return await receiver.result()
