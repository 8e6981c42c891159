"""Ends the programs in order when they are asked to, and at once when they are asked again.

This module owns the two signals. What is left behind by an end at once is removed by what the program registers here.
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

# Seconds that an orderly end may take; coroutines have their grace period in it.
LONGEST_END = 9.0


class Shutdown:
    """How a program ends.

    Attributes:
        scope: Cancelled when the program shall end in order.
        clean_up: Called before the end at once; they must not wait.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.clean_up: list[Callable[[], None]] = []
        self._signal: int | None = None
        self._asked = trio.Event()

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for SIGINT and SIGTERM until cancelled, also while the program is ending."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as arriving:
            task_status.started()
            async for number in arriving:
                if self._signal is not None:
                    self.end_now(number)
                self._signal = number
                logger.info("%s: ending; a second one ends at once", signal.Signals(number).name)
                self.scope.cancel()
                self._asked.set()

    def end_now(self, number: int) -> None:
        """Remove what would be left behind, and end without waiting for anything."""
        for call in self.clean_up:
            call()
        os._exit(128 + number)

    async def limit(self) -> None:
        """End the program by force when its orderly end takes too long."""
        await self._asked.wait()
        await trio.sleep(LONGEST_END)
        logger.warning("the orderly end took more than %g s; ending at once", LONGEST_END)
        self.end_now(self._signal or signal.SIGTERM)


async def run_until_signal(program: Callable[[Shutdown], Awaitable[None]]) -> None:
    """Run a program until it ends, or is told to by SIGINT or SIGTERM.

    Args:
        program: The program; it is cancelled, and has to end then.
    """
    ending = Shutdown()
    async with open_background() as nursery:
        await nursery.start(ending.watch)
        nursery.start_soon(ending.limit)
        with ending.scope:
            await program(ending)
