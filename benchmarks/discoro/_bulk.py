"""64 MiB to a coroutine on a server, and back: the same for every way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from benchmarks._load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.discoro._remote import echo

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


def measure_bulk(opened: AbstractAsyncContextManager[discoro.Computation], seconds: float) -> float:
    """Return megabytes per second, both directions counted.

    Args:
        opened: A computation with `echo` and one server.
        seconds: How long to go on.
    """

    async def main() -> float:
        payload = bulk_payload()
        async with opened as computation, discoro.open_coro() as me:
            server = await computation.run(echo, me)

            async def round_trip(_: int) -> None:
                await server.send(payload)
                await me.receive()

            median = await median_seconds(round_trip, seconds=seconds)
            await server.terminate()
            return bulk_megabytes_per_second(median)

    return trio.run(main)
