"""Transfers data in parts. The receiver requests each part, which limits the number of parts in flight."""

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
"""The bytes of one part, small enough not to go through shared memory."""

WINDOW = 8
"""The parts in flight that the receiver has not taken yet. They bound a transfer's memory at either end."""


async def fetch_parts(
    link: Link,
    span: tuple[int, int],
    wanted: Callable[[int, int], Control],
    take: Callable[[int, memoryview], Awaitable[None]],
) -> None:
    """Get data in parts.

    Args:
        link: The connection to the process that has the data.
        span: The first offset of the data and its end, in bytes.
        wanted: Makes a request from an offset and a number of bytes; the reply is `BulkData`.
        take: Awaited with the offset and the bytes of each part, in any order.

    Raises:
        DiscoroError: The other process did not send all of it, or `take` raised this.

    If cancelled, it requests no further parts.
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
    """Write all of `data` to a file; raise OSError if that is not possible."""
    while data:
        written = os.pwrite(file, data, offset)
        offset += written
        data = data[written:]


async def _part(link: Link, wanted: Callable[[int, int], Control], offset: int, size: int) -> memoryview:
    reply = answered(await link.request(wanted(offset, size)), BulkData)
    if len(reply.data) != size:
        text = f"{link.peer_name} sent {len(reply.data)} bytes, but {size} were requested"
        raise DiscoroError(text)
    return reply.data
