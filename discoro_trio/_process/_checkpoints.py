"""Lets other tasks run regularly in loops that would otherwise never wait.

`send` and `receive` are cancellation points that let others run at least every 64 messages or 1 ms (see API). This
module owns that count. A full checkpoint for each message would cost more than the message.
"""

from __future__ import annotations

from time import perf_counter

import trio

from .execution._scope_state import cancelled

_MOST_MESSAGES = 64
_LONGEST = 0.001  # seconds


class Checkpoints:
    """Counts the messages that a process has handled since it last let other tasks run."""

    __slots__ = ("_count", "_since")

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0

    def due(self) -> bool:
        """Count one more message; return whether to call `rest`: others should run, or the task is cancelled."""
        self._count += 1
        return self._count >= _MOST_MESSAGES or perf_counter() - self._since >= _LONGEST or cancelled()

    async def take(self) -> None:
        """Be a cancellation point, and let other tasks run if that is due."""
        if self.due():
            await self.rest()

    async def rest(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()
        self.rested()

    def rested(self) -> None:
        """Note that other tasks have just run."""
        self._count = 0
        self._since = perf_counter()
