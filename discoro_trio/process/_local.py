"""One coroutine that lives in this process, and which of them a task is.

This module owns the record of a living coroutine: its scope, its mailbox, its reason if it was cancelled. Running it
is with `_runner`.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import time
from typing import TYPE_CHECKING, Any

import trio

from .._config import config
from ._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link import Link
    from ._coro import Coro


class Local:
    """A living coroutine of this process."""

    __slots__ = ("_handle", "_make_handle", "endings", "link", "mailbox", "name", "reason", "report", "scope", "serial", "since")

    def __init__(self, serial: int, name: str, link: Link | None, make_handle: Callable[[Local], Coro[Any]]) -> None:
        self.serial = serial
        self.name = name
        self.link = link
        self.scope = trio.CancelScope()
        self.mailbox: Mailbox | None = None
        self.reason: str | None = None
        self.report: tuple[float, float | None, str] | None = None
        self.since = time()
        self.endings: list[Callable[[], None]] = []
        self._make_handle = make_handle
        self._handle: Coro[Any] | None = None

    @property
    def handle(self) -> Coro[Any]:
        """Its handle, made when first wanted."""
        if self._handle is None:
            self._handle = self._make_handle(self)
        return self._handle

    def box(self) -> Mailbox:
        """Its mailbox, made when first wanted."""
        if self.mailbox is None:
            self.mailbox = Mailbox(self.serial, config.mailbox_messages, config.mailbox_bytes)
        return self.mailbox

    def cancel(self, reason: str | None) -> None:
        """Ask for its cancellation; the first reason stands."""
        if not self.scope.cancel_called:
            self.reason = reason
            self.scope.cancel()


current: ContextVar[tuple[Local, ...]] = ContextVar("discoro coroutines", default=())
"""The coroutines that the running task is, the innermost last; their mailboxes are its own."""
