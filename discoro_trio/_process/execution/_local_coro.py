"""The record of a running coroutine of this process, and the coroutines to which a task belongs.

This module owns that record: the scope, the mailbox, the reason of a cancellation. `_runner` runs the coroutine.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import time
from typing import TYPE_CHECKING, Any

from ..._config import config
from ..messaging._mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from ..._link import Link
    from .._coro import Coro
    from .._process import Process
    from .._telemetry import Entered
    from ._task_status import RemoteTaskStatus


NOBODY = ~0
"""The source number of messages from all tasks that are not coroutines."""


class LocalCoro:
    """A running coroutine of this process.

    Attributes:
        scope: Its cancel scope; None before it begins.
        cancelled: Whether its cancellation was requested.
        shown: Its handle, once it exists.
        function: The name of its function; empty before it begins.
        given: Its arguments, for their description, unless they are large.
    """

    __slots__ = (
        "begun",
        "cancelled",
        "endings",
        "function",
        "given",
        "home",
        "link",
        "mailbox",
        "name",
        "process",
        "reason",
        "report",
        "returned",
        "scope",
        "serial",
        "shown",
        "since",
        "source",
        "span",
        "status",
        "waited",
    )

    def __init__(
        self, serial: int, name: str, link: Link | None, process: Process, scope: trio.CancelScope | None
    ) -> None:
        self.process: Process = process
        self.home: bytes = process.id
        self.serial: int = serial
        self.source: int = ~serial  # as the sender of messages; messages to it have its serial as target
        self.name: str = name
        self.link: Link | None = link
        self.scope: trio.CancelScope | None = scope
        self.begun: bool = False
        self.waited: float = -1.0  # of a plain function: the seconds that each one before it held its thread
        self.returned: bool = False  # its starter has revoked it before it began
        self.cancelled: bool = False
        self.mailbox: Mailbox | None = None
        self.reason: str | None = None
        self.report: tuple[float, float | None, str] | None = None
        self.since: float = time()
        self.status: RemoteTaskStatus | None = None
        # The functions to call at its end.
        self.endings: list[Callable[[], None]] | None = None
        self.shown: Coro[Any] | None = None
        self.function: str = ""
        self.span: Entered | None = None
        self.given: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def handle(self) -> Coro[Any]:
        """Its handle, made at the first use."""
        if self.shown is None:
            self.shown = self.process.handle_of(self)
        return self.shown

    def box(self) -> Mailbox:
        """Its mailbox, made at the first use."""
        if self.mailbox is None:
            self.open_mailbox(config.mailbox_messages)
        assert self.mailbox is not None  # noqa: S101 - it was just opened
        return self.mailbox

    def open_mailbox(self, limit: int) -> None:
        """Open its mailbox with a window of `limit` messages instead of the default."""
        self.mailbox = Mailbox(self.serial, limit, config.mailbox_bytes, self.process.turns)

    def at_end(self, call: Callable[[], None]) -> None:
        """Call `call` when it has ended."""
        if self.endings is None:
            self.endings = []
        self.endings.append(call)

    def ended(self) -> None:
        """Call the functions passed to `at_end`."""
        for call in self.endings or ():
            call()

    def cancel(self, reason: str | None) -> None:
        """Request its cancellation; the first reason is kept. Never call it after the end: the scope may be reused."""
        if not self.cancelled:
            self.cancelled = True
            self.reason = reason
            if self.scope is not None:
                self.scope.cancel()


current: ContextVar[tuple[LocalCoro, ...]] = ContextVar("discoro coroutines", default=())
"""The coroutines of the running task, innermost last; it may receive from their mailboxes."""
