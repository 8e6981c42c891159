"""Makes the calling task a coroutine with a mailbox."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from .._arguments import integer, optional_text
from ._current import enclosing_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._coro import Coro


@asynccontextmanager
async def open_coro(name: str | None = None, *, mailbox_size: int = 1024) -> AsyncIterator[Coro[Any]]:
    """Give the current task a mailbox, and a handle by which others reach it.

    Args:
        name: For people; by default that of the task.
        mailbox_size: The messages that each sending process may send ahead of what is received.

    Raises:
        ValueError: `mailbox_size` is less than 1.

    If no endpoint encloses the task, one is opened for the block, as `schedule` does.
    When the block is left, the mailbox is closed: those who send to it get `MailboxClosed`.
    """
    size = integer("mailbox_size", mailbox_size, least=1)
    name = optional_text("name", name) or trio.lowlevel.current_task().name
    async with enclosing_process() as process:
        with process.enclosing(name, size) as local:
            yield local.handle
