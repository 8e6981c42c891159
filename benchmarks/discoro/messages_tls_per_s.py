"""Messages one way to a coroutine on a server, one `send` each, under TLS."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP
from benchmarks.discoro._distant import open_distant_computation
from benchmarks.discoro._remote import count

if TYPE_CHECKING:
    import discoro_trio as discoro

BETWEEN_LOOKS = 1024
"""Messages between two looks at the clock."""


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""

    async def main() -> float:
        async with open_distant_computation(count) as computation:
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
            await receiver.send(number)
    await receiver.send(None)
    return await receiver.result()
