"""A message to a coroutine on a server, and back: the same for every message and every way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discoro_trio as discoro
from benchmarks._load import median_seconds
from benchmarks.discoro._remote import echo

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager


async def median_round_trip(
    opened: AbstractAsyncContextManager[discoro.Computation], message: Callable[[int], object], *, seconds: float
) -> float:
    """Return the median of one round trip in seconds.

    Args:
        opened: A computation with `echo` and one server.
        message: Returns the message of a number.
        seconds: How long to go on.
    """
    async with opened as computation, discoro.open_coro() as me:
        server = await computation.run(echo, me)

        async def round_trip(number: int) -> None:
            await server.send(message(number))
            await me.receive()

        median = await median_seconds(round_trip, seconds=seconds)
        await server.terminate()
        return median
