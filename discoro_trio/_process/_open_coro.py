"""Makes the calling task a coroutine with a mailbox."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._arguments import integer, optional_text
from .._scopes import enter_loop
from ._current import enclosing_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._coro import Coro


@asynccontextmanager
async def open_coro(name: str | None = None, *, mailbox_size: int = 1024) -> AsyncIterator[Coro[Any]]:
    """Give the current task a mailbox, and a handle by which other coroutines reach it.

    Args:
        name: A display name; by default the name of the task.
        mailbox_size: The number of unreceived messages that each sending process may have in flight.

    Raises:
        ValueError: `mailbox_size` is less than 1.

    If no endpoint encloses the task, one is opened for the block, as `schedule` does.
        Leaving the block closes the mailbox: later sends raise `MailboxClosed`.
    """
    size = integer("mailbox_size", mailbox_size, least=1)
    if not trio.lowlevel.in_trio_run():  # its clock may jump in a test without other processes
        await enter_loop()
    name = optional_text("name", name) or trio.lowlevel.current_task().name
    async with enclosing_process() as process:
        with process.enclosing(name, size) as local:
            yield local.handle
