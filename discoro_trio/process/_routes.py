"""The sending half of flow control: how messages of this process reach one coroutine of another.

A route owns the window towards its coroutine and the senders that wait for it, who take turns. It knows whether the
coroutine has ended, and whether a connection was lost since the last message, so that no gap passes unseen.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._errors import MailboxClosed, PeerDisconnected
from ..wire import SendWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link import Link
    from ._mail import Mail


class _Turn:
    """One sender that waits."""

    __slots__ = ("error", "event", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.event = trio.Event()
        self.error: Exception | None = None


class Route:
    """The way from this process to one coroutine's mailbox."""

    __slots__ = ("__weakref__", "_limit", "_waiting", "broken", "closed", "link", "mail", "name", "window")

    def __init__(self, mail: Mail, name: str, limit: int) -> None:
        self.mail = mail
        self.name = name
        self.link: Link | None = None
        self.closed = False
        self.broken = False
        self.window = SendWindow(limit, config.mailbox_bytes)
        self._limit = limit
        self._waiting: deque[_Turn] = deque()

    def check(self) -> None:
        """Raise if a message sent now would be lost, or would hide that an earlier one was."""
        if self.closed:
            raise self._closed()
        if self.broken:
            self.broken = False
            raise self._disconnected()

    def _closed(self) -> MailboxClosed:
        return MailboxClosed(f"{self.name} has ended; it takes no more messages")

    def _disconnected(self) -> PeerDisconnected:
        return PeerDisconnected(f"the connection to {self.name} was lost; messages sent before may not have arrived")

    def take(self, size: int) -> bool:
        """Take the credit for a message of this size, if it is its turn and there is enough."""
        if self._waiting or not self.window.fits(size):
            return False
        self.window.take(size)
        return True

    async def wait(self, size: int) -> None:
        """Wait for the turn and take the credit. Cancelling gives the turn up.

        Raises:
            PeerDisconnected: The connection was lost meanwhile.
            MailboxClosed: The coroutine ended meanwhile.
        """
        turn = _Turn(size)
        self._waiting.append(turn)
        try:
            await turn.event.wait()
        except trio.Cancelled:
            # Trio delivers this only to a task that was not woken: the turn is still in the queue.
            self._waiting.remove(turn)
            self._wake()
            raise
        if turn.error is not None:
            raise turn.error

    def give(self, messages: int, size: int) -> None:
        """Take back credit that the coroutine's process returned."""
        self.window.give(messages, size)
        self._wake()

    def _wake(self) -> None:
        # The credit is taken here, for the sender that wakes: nobody slips in between.
        while self._waiting and self.window.fits(self._waiting[0].size):
            turn = self._waiting.popleft()
            self.window.take(turn.size)
            turn.event.set()

    def opened(self, link: Link) -> None:
        """Use a new connection, with a fresh window."""
        self.link = link
        self.window = SendWindow(self._limit, config.mailbox_bytes)

    def lost(self) -> None:
        """Note that the connection is lost; those who wait hear of it, or else the next one who sends."""
        self.link = None
        self.broken = not self._waiting
        self._release(self._disconnected)

    def close(self) -> None:
        """Note that the coroutine has ended; those who wait hear of it."""
        self.closed = True
        self._release(self._closed)

    def _release(self, error: Callable[[], Exception]) -> None:
        for turn in self._waiting:
            turn.error = error()
            turn.event.set()
        self._waiting.clear()
