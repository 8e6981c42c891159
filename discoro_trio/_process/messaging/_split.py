"""Splits the mailbox of a coroutine into several, by what the messages are.

It stands on top of `Coro.receive` and Trio's memory channels alone.
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
    """Sort what comes into the coroutine's own mailbox into receive channels while the block lasts.

    It is found as `discoro_trio._process.split_mailbox`.

    Args:
        coro: The coroutine that calls.
        by: A plain function that gives the part to which a message belongs.
        parts: All parts that there are.
        limit: The messages that a part holds. When one is full, the mailbox waits for it, then its senders wait: all
            parts must be received from, or be closed, which drops what belongs to them.

    Yields:
        A receive channel for each part.

    Raises:
        RuntimeError: The calling task is not this coroutine.
        ValueError: `by` gave a part that is not among `parts`; raised by the block.
        Exception: What `by` or opening a message raised; raised by the block.

    When the block is left, what was sorted and not received is dropped; what was not sorted yet is in the mailbox.
    """
    channels = {part: trio.open_memory_channel[Any](limit) for part in parts}
    async with open_background() as nursery:
        # Here and not in the task, so that who may not receive hears of it at once.
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
            continue  # nobody wants that part any more
