"""xoscar with one actor in a process of its own, on loopback TCP."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import asynccontextmanager
from importlib import metadata
from time import perf_counter
from typing import TYPE_CHECKING

import xoscar

from benchmarks._scale import IN_FLIGHT, MICROSECONDS, WARM_UP, bulk_megabytes_per_second, bulk_payload
from benchmarks.peer_systems._startup import startup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version() -> str:
    """Return the version of the system."""
    return metadata.version("xoscar")


class Echo(xoscar.Actor):  # type: ignore[misc, unused-ignore]
    """Gives back what it gets, and counts it."""

    def __init__(self) -> None:
        self._count = 0

    async def echo(self, message: object) -> object:
        """Give it back."""
        return message

    async def put(self, _message: object) -> None:
        """Count it."""
        self._count += 1

    async def taken(self) -> int:
        """Return the count, and begin again."""
        count, self._count = self._count, 0
        return count


@asynccontextmanager
async def open_actor() -> AsyncIterator[xoscar.ActorRef]:
    """Open a pool of one process beside this one, with the actor in it."""
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1)
    async with pool:
        yield await xoscar.create_actor(
            Echo,
            address=pool.external_address,
            allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1),
        )


def message_roundtrip_us(seconds: float) -> float:
    """Call the actor and wait for the answer."""
    return asyncio.run(_round_trip(0, seconds)) * MICROSECONDS


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Call the actor with 64 MiB."""
    return bulk_megabytes_per_second(asyncio.run(_round_trip(bulk_payload(), seconds)))


async def _round_trip(message: object, seconds: float) -> float:
    async with open_actor() as actor:
        await _timed(actor, message, seconds * WARM_UP)
        return statistics.median(await _timed(actor, message, seconds))


async def _timed(actor: xoscar.ActorRef, message: object, seconds: float) -> list[float]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        await actor.echo(message)
        now = perf_counter()
        durations.append(now - before)
    return durations


def messages_per_s(seconds: float) -> float:
    """Call the actor by `tell`, which asks for no value, so many calls in flight, until it has counted the last."""

    async def main() -> float:
        async with open_actor() as actor:
            await _told(actor, seconds * WARM_UP)
            begun = perf_counter()
            messages = await _told(actor, seconds)
            return messages / (perf_counter() - begun)

    return asyncio.run(main())


async def _told(actor: xoscar.ActorRef, seconds: float) -> int:
    deadline = perf_counter() + seconds

    async def teller() -> None:
        while perf_counter() < deadline:
            await actor.put.tell(0)

    await asyncio.gather(*(teller() for _ in range(IN_FLIGHT)))
    return int(await actor.taken())


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_xoscar", seconds)
