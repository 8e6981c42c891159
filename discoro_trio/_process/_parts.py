"""Data that one process gets from another in parts: it asks for them, so that it bounds what is under way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from .._errors import DiscoroError
from .._link import BulkData, answered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._link import Link
    from .._wire import Control

PART = 960 * 1024
"""The bytes of one part: less than what would go through shared memory."""

WINDOW = 8
"""The parts under way, not yet taken at the receiver: what a transfer costs in memory, at either end."""


async def fetch_parts(
    link: Link,
    span: tuple[int, int],
    wanted: Callable[[int, int], Control],
    take: Callable[[int, memoryview], Awaitable[None]],
) -> None:
    """Get data in parts.

    Args:
        link: The connection to the process that has it.
        span: Where the data begins and where it ends, in bytes.
        wanted: Makes the request for so many bytes from an offset on; it is answered by `BulkData`.
        take: Is awaited with the offset and the bytes of each part, in any order.

    Raises:
        DiscoroError: The other process did not send all of it, or `take` raised this.

    Cancelling it asks for nothing more.
    """
    begin, end = span
    failures: list[DiscoroError] = []
    offsets = iter(range(begin, end, PART))

    async def fetch(scope: trio.CancelScope) -> None:
        for offset in offsets:
            try:
                await take(offset, await _part(link, wanted, offset, min(PART, end - offset)))
            except DiscoroError as error:
                failures.append(error)
                scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(WINDOW):
            nursery.start_soon(fetch, nursery.cancel_scope)
    if failures:
        raise failures[0]


def write_at(file: int, offset: int, data: memoryview) -> None:
    """Write all of some bytes to a file. OSError if that is not possible."""
    while data:
        written = os.pwrite(file, data, offset)
        offset += written
        data = data[written:]


async def _part(link: Link, wanted: Callable[[int, int], Control], offset: int, size: int) -> memoryview:
    reply = answered(await link.request(wanted(offset, size)), BulkData)
    if len(reply.data) != size:
        text = f"{link.peer_name} sent {len(reply.data)} bytes, where {size} were asked for"
        raise DiscoroError(text)
    return reply.data
