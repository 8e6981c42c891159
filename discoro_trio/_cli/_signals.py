"""Ends the programs in order on the first signal, and at once on the second.

This module owns the two signals. Before an end at once it calls the clean-up functions that the program registers.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

import trio

from .._scopes import open_background

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

LONGEST_END = 9.0


class Shutdown:
    """How a program ends.

    Attributes:
        scope: Cancelled to end the program in order.
        clean_up: Functions that are called before an end at once; they must not wait.
        longest: Seconds that the orderly end may take, including the grace period of coroutines.
        drain: Called on the first SIGTERM, before the orderly end; None to end at that signal.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.clean_up: list[Callable[[], None]] = []
        self.longest = LONGEST_END
        self.drain: Callable[[], Awaitable[None]] | None = None
        self._drains = trio.Event()
        self._signal: int | None = None
        self._asked = trio.Event()

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for SIGINT and SIGTERM until cancelled, also while the program is ending."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as arriving:
            task_status.started()
            async for number in arriving:
                if self._signal is not None:
                    self.end_now(number)
                if number == signal.SIGTERM and self.drain is not None and not self._drains.is_set():
                    logger.info("SIGTERM: draining; a second one ends in order, a third one at once")
                    self._drains.set()
                else:
                    self._end(number)

    def _end(self, number: int) -> None:
        self._signal = number
        logger.info("%s: ending; a second one ends at once", signal.Signals(number).name)
        self.scope.cancel()
        self._asked.set()

    async def drain_when_asked(self) -> None:
        """Drain after the first SIGTERM, then end in order."""
        await self._drains.wait()
        assert self.drain is not None  # noqa: S101 - it is set before the event
        await self.drain()
        if self._signal is None:
            self._end(signal.SIGTERM)

    def end_now(self, number: int) -> None:
        """Call the clean-up functions, and end without waiting for anything."""
        for call in self.clean_up:
            call()
        os._exit(128 + number)

    async def limit(self) -> None:
        """End the program by force when its orderly end takes too long."""
        await self._asked.wait()
        await trio.sleep(self.longest)
        logger.warning("the orderly end took more than %g s; ending at once", self.longest)
        self.end_now(self._signal or signal.SIGTERM)


async def run_until_signal(program: Callable[[Shutdown], Awaitable[None]]) -> None:
    """Run a program until it ends, or until SIGINT or SIGTERM ends it.

    Args:
        program: The program; when it is cancelled, it must end.
    """
    ending = Shutdown()
    async with open_background() as nursery:
        await nursery.start(ending.watch)
        nursery.start_soon(ending.limit)
        nursery.start_soon(ending.drain_when_asked)
        with ending.scope:
            await program(ending)
