"""Lets other tasks run now and then in loops that would not wait otherwise.

`send` and `receive` are cancellation points that let others run at least every 64 messages or 1 ms (see API). This
module owns that count; a full checkpoint a message would cost more than the message.
"""

from __future__ import annotations

from time import perf_counter

import trio

_MOST_MESSAGES = 64
_LONGEST = 0.001  # seconds


class Turns:
    """Counts what a process did since it last let others run."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    async def take(self) -> None:
        """Be a cancellation point, and let others run when it is their turn."""
        self._count += 1
        now = perf_counter()
        if self._count < _MOST_MESSAGES and now - self._since < _LONGEST:
            await trio.lowlevel.checkpoint_if_cancelled()
            return
        await trio.lowlevel.checkpoint()
        self.rested()

    def rested(self) -> None:
        """Note that others have just run."""
        self._count = 0
        self._since = perf_counter()
