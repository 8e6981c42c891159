"""Lets other tasks run now and then in loops that would not wait otherwise.

`send` and `receive` are cancellation points that let others run at least every 64 messages or 1 ms (see API). This
module owns that count; a full checkpoint a message would cost more than the message.
"""

from __future__ import annotations

from time import perf_counter

import trio

from .execution._scope_state import cancelled

_MOST_MESSAGES = 64
_LONGEST = 0.001  # seconds


class Checkpoints:
    """Counts what a process did since it last let others run."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    def due(self) -> bool:
        """Count one more message; tell whether it is the others' turn, or the task is cancelled: then `rest`."""
        self._count += 1
        return self._count >= _MOST_MESSAGES or perf_counter() - self._since >= _LONGEST or cancelled()

    async def take(self) -> None:
        """Be a cancellation point, and let others run when it is their turn."""
        if self.due():
            await self.rest()

    async def rest(self) -> None:
        """Let others run."""
        await trio.lowlevel.checkpoint()
        self.rested()

    def rested(self) -> None:
        """Note that others have just run."""
        self._count = 0
        self._since = perf_counter()
