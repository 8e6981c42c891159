"""Messages one way to a coroutine that counts them: the same for every way there and every kind of message."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP
from benchmarks.discoro._remote import count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    import discoro_trio as discoro

BETWEEN_LOOKS = 1024
"""Messages between two looks at the clock."""


async def send_numbers(receiver: discoro.Coro[Any]) -> None:
    """Send plain numbers."""
    for number in range(BETWEEN_LOOKS):
        await receiver.send(number)


def measure_flood(
    opened: AbstractAsyncContextManager[discoro.Computation],
    seconds: float,
    send_some: Callable[[discoro.Coro[Any]], Awaitable[None]] = send_numbers,
) -> float:
    """Return messages per second, until the receiver has counted the last.

    Args:
        opened: A computation with `count` and one server.
        seconds: How long to go on.
        send_some: Sends `BETWEEN_LOOKS` messages.
    """

    async def flood(computation: discoro.Computation, duration: float) -> int:
        deadline = perf_counter() + duration
        receiver = await computation.run(count)
        while perf_counter() < deadline:
            await send_some(receiver)
        await receiver.send(None)
        return await receiver.result()

    async def main() -> float:
        async with opened as computation:
            await flood(computation, seconds * WARM_UP)
            begun = perf_counter()
            counted = await flood(computation, seconds)
            return counted / (perf_counter() - begun)

    return trio.run(main)
