"""The sending half of flow control, for messages of this process to one coroutine of another process.

A route owns the window towards its coroutine, and the queue of senders that wait for it. It records whether the
coroutine has ended, and which senders had messages in flight when a connection was lost, so that each of them gets an
error. The window bounds what is in flight: `mailbox_size` messages and `config.mailbox_bytes`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import MailboxClosed, PeerDisconnected
from ..._wire import COST, Batch, Kind, SendWindow
from .. import _order as order
from ..execution._local_coro import NOBODY, current
from ._mailbox import ASKED, CREDIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._link import Link
    from ._mail import Mail


# Seconds that a sender waits before it requests credit. A receiver that keeps up has returned some by then.
_PATIENCE = 0.001


class _Turn:
    """One waiting sender."""

    __slots__ = ("error", "event", "link", "size", "source")

    def __init__(self, size: int, source: int) -> None:
        self.size = size
        self.source = source
        self.event = trio.Event()
        self.link: Link | None = None
        self.error: Exception | None = None


class MessageSender:
    """The route from this process to one coroutine's mailbox.

    Attributes:
        link: The connection in use, if there is one.
        batch: The short values that are collected for the coroutine on that connection.
        trouble: Whether `check` may raise.
        opening: Whether a connection is being made in the background.
    """

    __slots__ = (
        "__weakref__",
        "_asking",
        "_closed",
        "_flying",
        "_gap",
        "_gaps",
        "_limit",
        "_waiting",
        "_window",
        "batch",
        "link",
        "mail",
        "name",
        "opening",
        "trouble",
    )

    def __init__(self, mail: Mail, name: str, serial: int, limit: int) -> None:
        self.mail: Mail = mail
        self.name: str = name
        self.link: Link | None = None
        self.batch: Batch = Batch(serial)
        self.trouble: bool = False
        self.opening: bool = False
        self._asking = False  # a waiting sender has requested credit
        self._closed = False
        self._gap = False  # the connection was lost, and no sender got the error yet
        self._gaps: set[int] = set()  # the senders whose messages may be lost, and who have not got the error yet
        self._flying: list[int] = []  # the sender of each message whose credit was not returned yet
        self._window = SendWindow(limit, config.mailbox_bytes)
        self._limit = limit
        self._waiting: deque[_Turn] = deque()

    @property
    def free(self) -> tuple[int, int]:
        """The messages and bytes that may be sent now."""
        return self._window.free

    def check(self, source: int) -> None:
        """Raise if a message sent now would be lost, or if an earlier one of this sender may be lost unnoticed."""
        if self._gap or source in self._gaps:
            self.told(source)
            raise self._disconnected()
        if self._closed:
            raise self.ended()

    def told(self, source: int) -> None:
        """Note that a sender has got the error for its messages that may be lost."""
        self._gap = False
        self._gaps.discard(source)
        self.trouble = self._closed or bool(self._gaps)

    def ended(self) -> MailboxClosed:
        """Make the error for a message to a coroutine that has ended."""
        return MailboxClosed(f"{self.name} has ended; it takes no more messages")

    def _disconnected(self) -> PeerDisconnected:
        return PeerDisconnected(f"the connection to {self.name} was lost; messages sent before may not have arrived")

    def take(self, size: int, source: int) -> bool:
        """Take the credit for a message of this size, if no sender waits and there is enough."""
        if self._waiting or not self._window.take(size):
            return False
        self._flying.append(source)
        return True

    def gather(self, value: object) -> bool:
        """Send a short value (`wire.is_short`), if that needs no waiting; return whether it was sent."""
        if self.trouble or self._waiting:
            return False
        batch, link, window = self.batch, self.link, self._window
        if not batch and (link is None or link.lost):
            return False
        # `take`, and `source_here` below, are inlined, as this runs for each message.
        if window.messages > 0 and window.size >= COST:
            window.messages -= 1
            window.size -= COST
        elif not window.take(COST):
            return False
        locals_ = current.get()
        source = locals_[-1].source if locals_ else NOBODY
        self._flying.append(source)
        if batch:
            batch.append(value)
        else:
            assert link is not None  # noqa: S101 - mypy
            link.gather(batch, value, *order.message(source, batch.target))
        return True

    async def wait(self, size: int, source: int) -> Link | None:
        """Wait in the queue and take the credit; return the link to send on. Cancelling leaves the queue.

        Raises:
            PeerDisconnected: The connection was lost meanwhile.
            MailboxClosed: The coroutine ended meanwhile.
        """
        turn = _Turn(size, source)
        self._waiting.append(turn)
        try:
            with trio.move_on_after(_PATIENCE):
                await turn.event.wait()
            if not turn.event.is_set():
                if not self._asking:
                    self._ask()
                await turn.event.wait()
        except BaseException:
            self._give_up(turn)
            raise
        if turn.error is not None:
            raise turn.error
        return turn.link

    def _give_up(self, turn: _Turn) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        elif turn.error is None and turn.link is self.link:
            # The credit was given to a sender that was already cancelled and had not run yet.
            self._window.give(1, turn.size)
            self._flying.reverse()
            self._flying.remove(turn.source)
            self._flying.reverse()
        self._wake()

    def give(self, messages: int, size: int) -> None:
        """Add credit that the coroutine's process returned."""
        self._window.give(messages, size)
        del self._flying[:messages]
        if self._waiting:
            self._wake()

    def _ask(self) -> None:
        """Request the credit that the first waiting sender lacks."""
        self._asking = True
        if self.link is not None and not self.link.lost:
            missing = self._window.missing(self._waiting[0].size)
            target = self.batch.target
            self.link.send(Kind.CREDIT, target, CREDIT.pack(*missing), ASKED, after=(order.started(target),))

    def _wake(self) -> None:
        # The credit is taken here for the sender that wakes, so no other sender can take it before.
        while self._waiting and self._window.take(self._waiting[0].size):
            turn = self._waiting.popleft()
            self._flying.append(turn.source)
            turn.link = self.link
            turn.event.set()
        if not self._waiting:
            self._asking = False
        elif self._asking:
            self._ask()

    def opened(self, link: Link) -> None:
        """Use a new connection, with a fresh window."""
        self.link = link
        self._flying.clear()
        self._window = SendWindow(self._limit, config.mailbox_bytes)

    def lost(self) -> None:
        """Note that the connection is lost; waiting senders get an error now, all others when they send again."""
        self.link = None
        self.batch = Batch(self.batch.target)  # the old batch may still be in the outbox of the link
        self._gaps.update(self._flying)
        self._gap = not self._waiting
        for turn in self._waiting:
            self._gaps.discard(turn.source)
        self.trouble = self._closed or self._gap or bool(self._gaps)
        self._release(self._disconnected)

    def failed(self) -> None:
        """Note that no connection could be made; the next send raises an error."""
        self._gap = self.trouble = True

    def close(self) -> None:
        """Note that the coroutine has ended; waiting senders get an error."""
        self._gap = False
        self._gaps.clear()
        self.close_after_loss()

    def close_after_loss(self) -> None:
        """Note that the coroutine is lost with its process; senders whose messages may be lost still get that error."""
        self._closed = self.trouble = True
        self._release(self.ended)

    def _release(self, error: Callable[[], Exception]) -> None:
        for turn in self._waiting:
            turn.error = error()
            turn.event.set()
        self._waiting.clear()
        self._asking = False
