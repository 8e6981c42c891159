"""Follows what is watched, a Scheduler or a Computation: its state at first, then its events, into the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import trio

    from ._feed import Feed


class Source(Protocol):
    """What can be watched."""

    def subscribe(self) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[object]]:
        """Give the status messages while the block lasts; the first ones tell the present state."""
        ...


async def follow(source: Source | None, feed: Feed, ready: trio.Event) -> None:
    """Feed the model from a source until it ends.

    Args:
        source: What is watched; None where messages come to `status_coro`.
        feed: What takes the messages.
        ready: Set once the first state is there.
    """
    if source is None:
        ready.set()
        return
    async with source.subscribe() as messages:
        ready.set()
        async for message in messages:
            feed.apply(message)
