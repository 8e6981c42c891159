"""The actor pool that every figure is measured on, and the actor."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import xoscar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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
