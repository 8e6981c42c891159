"""Splits the mailbox of a coroutine into several parts, by the kind of message.

It uses only `Coro.receive` and Trio's memory channels.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from ..._scopes import open_background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping

    from .._coro import Coro

K = TypeVar("K", bound="Hashable")


@asynccontextmanager
async def split_mailbox(
    coro: Coro[Any], by: Callable[[Any], K], parts: Iterable[K], *, limit: int = 1024
) -> AsyncIterator[Mapping[K, trio.MemoryReceiveChannel[Any]]]:
    """Sort messages from the coroutine's own mailbox into receive channels while the block lasts.

    Import it as `discoro_trio._process.split_mailbox`.

    Args:
        coro: The calling coroutine.
        by: A plain function that returns the part to which a message belongs.
        parts: All parts.
        limit: The number of messages that a part holds. When a part is full, the mailbox waits for it, then its
            senders wait. So receive from every part, or close it, which drops its messages.

    Yields:
        A receive channel for each part.

    Raises:
        RuntimeError: The calling task is not this coroutine.
        ValueError: `by` returned a part that is not among `parts`; raised by the block.
        Exception: `by` or unpickling a message raised it; raised by the block.

    Leaving the block drops sorted messages that were not received; unsorted messages stay in the mailbox.
    """
    channels = {part: trio.open_memory_channel[Any](limit) for part in parts}
    async with open_background() as nursery:
        # Here and not in the task, so that a caller that may not receive gets the error at once.
        first = _received(coro)
        nursery.start_soon(_sort, coro, by, {part: send for part, (send, _) in channels.items()}, first)
        try:
            yield {part: receive for part, (_, receive) in channels.items()}
        finally:
            for send, receive in channels.values():
                send.close()
                receive.close()


def _received(coro: Coro[Any]) -> list[Any]:
    try:
        return [coro.receive_nowait()]
    except trio.WouldBlock:
        return []


async def _sort(
    coro: Coro[Any], by: Callable[[Any], K], channels: Mapping[K, trio.MemorySendChannel[Any]], first: list[Any]
) -> None:
    while True:
        message = first.pop() if first else await coro.receive()
        part = by(message)
        if part not in channels:
            text = f"{part!r} is none of the parts that the mailbox is split into: {', '.join(map(repr, channels))}"
            raise ValueError(text)
        try:
            await channels[part].send(message)
        except trio.BrokenResourceError:
            continue  # the receiver has closed that part
