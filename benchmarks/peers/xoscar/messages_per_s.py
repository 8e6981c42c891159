"""Calls of an actor, many under way at once, by `tell`, which asks for no value."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks._scale import IN_FLIGHT, WARM_UP
from benchmarks.peers.xoscar._pool import open_actor

if TYPE_CHECKING:
    import xoscar


def measure(seconds: float) -> float:
    """Return messages per second, until the actor has counted the last."""

    async def main() -> float:
        async with open_actor() as actor:
            await _put(actor, seconds * WARM_UP)
            begun = perf_counter()
            messages = await _put(actor, seconds)
            return messages / (perf_counter() - begun)

    return asyncio.run(main())


async def _put(actor: xoscar.ActorRef, seconds: float) -> int:
    deadline = perf_counter() + seconds

    async def teller() -> None:
        while perf_counter() < deadline:
            await actor.put.tell(0)

    await asyncio.gather(*(teller() for _ in range(IN_FLIGHT)))
    return int(await actor.taken())
