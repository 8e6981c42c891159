"""What a subscriber that reads all status costs jobs: their processor time with one, as a part of that without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks.discoro._subscribed import ratio

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    import discoro_trio as discoro
    from discoro_trio._cluster import Event


READER = "reader of status"


def measure(seconds: float) -> float:
    """Return the processor time of jobs with the subscriber as a part of that without."""
    return ratio(_subscribe, seconds, READER)


async def _subscribe(computation: discoro.Computation, stack: AsyncExitStack) -> None:
    events = await stack.enter_async_context(computation.subscribe())
    nursery = await stack.enter_async_context(trio.open_nursery())
    nursery.start_soon(_read, events, name=READER)
    stack.callback(nursery.cancel_scope.cancel)


async def _read(events: trio.abc.ReceiveChannel[Event]) -> None:
    async for _ in events:
        pass
