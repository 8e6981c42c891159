"""What runs on the servers. It imports nothing of the client's side, so that it can be shipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

import discoro_trio as discoro


@dataclass
class Point:
    """A small value of a class of the program's own."""

    x: float
    y: float


async def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


def increment_plainly(value: int) -> int:
    """Do the same as a plain function, for chunks."""
    return value + 1


async def echo(client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    """Send back each message."""
    async for message in coro:
        await client.send(message)


async def count(*, coro: discoro.Coro[int]) -> int:
    """Count messages until None."""
    total = 0
    while await coro.receive() is not None:
        total += 1
    return total


async def suspended(*, coro: discoro.Coro[None]) -> None:
    """Wait at an empty mailbox."""
    await coro.receive()


async def dawdle(*, coro: discoro.Coro[None]) -> None:
    """Receive a message now and then."""
    async for _ in coro:
        await trio.sleep(0.01)


async def subscribe(channel: str | None) -> int:
    """Count what is published on a channel until it ends; None: come back at once."""
    if channel is None:
        return 0
    count = 0
    async with (await discoro.locate_channel(channel)).subscribe() as messages:
        async for _ in messages:
            count += 1
    return count


async def clean_up_when_cancelled() -> None:
    """Wait until cancelled, then await something in the clean-up."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()


def resident_megabytes() -> float:
    """Return the resident memory of the server's process, in 10⁶ bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


async def last_of_shared(shared: discoro.Shared[Any]) -> int:
    """Look at the last byte of a shared value."""
    return int(shared.value[-1])


async def sum_of_shared(shared: discoro.Shared[Any]) -> int:
    """Look at all bytes of a shared value."""
    return int(shared.value.sum())
