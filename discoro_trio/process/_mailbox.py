"""The mailbox of one coroutine: what has arrived for it, and the credit it owes to the processes that sent it.

This module owns the order of messages and the receiving half of flow control. Sending is with `_routes`, frames are
with `_mail`. What a mailbox can hold is bounded: for each sending process its limit of messages and of bytes, or one
larger message, and as many messages of its own process as the limit says.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from .._errors import MailboxClosed
from ..wire import Kind, ReceiveWindow, loads
from ._packed import Packed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..link import Link
    from ._turns import Turns

CREDIT = struct.Struct("!IQ")
"""The body of a CREDIT frame: messages and bytes that may be sent again."""


class _Sender:
    """One process that sends to the mailbox, by one link."""

    __slots__ = ("link", "owing", "window")

    def __init__(self, link: Link, window: ReceiveWindow) -> None:
        self.link = link
        self.window = window
        self.owing = False

    def pay(self, serial: int) -> None:
        """Return the credit for what was received."""
        messages, size = self.window.due()
        if messages and not self.link.lost:
            self.link.send(Kind.CREDIT, serial, CREDIT.pack(messages, size))


class Mailbox:
    """A queue of messages with a window for each sending process.

    Attributes:
        items: What waits to be received.
        turns: When the coroutine that receives lets others run.
        opener: What makes a message of its body and buffers; those who pass messages on leave them packed.
        closed: Whether it takes no more.
    """

    __slots__ = (
        "_limit",
        "_local",
        "_owing",
        "_readers",
        "_senders",
        "_serial",
        "_size",
        "_waiting",
        "closed",
        "items",
        "opener",
        "turns",
    )

    def __init__(self, serial: int, limit: int, size: int, turns: Turns) -> None:
        self.closed: bool = False
        self.turns: Turns = turns
        self.opener: Callable[[Any, Sequence[Any]], object] = loads
        self._serial = serial
        self._limit = limit
        self._size = size
        self.items: deque[tuple[_Sender | None, int, object, Sequence[memoryview]]] = deque()
        self._local = 0
        self._senders: dict[Link, _Sender] = {}
        self._owing: list[_Sender] = []
        self._readers = trio.lowlevel.ParkingLot()
        self._waiting = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        """Count the messages that wait to be received."""
        return len(self.items)

    # --- filling

    def arrived(self, link: Link, body: object, buffers: Sequence[memoryview], size: int) -> None:
        """Take a message of another process; ProtocolError if it is over its window."""
        sender = self._senders.get(link)
        if sender is None:
            sender = self._senders[link] = _Sender(link, ReceiveWindow(self._limit, self._size))
        sender.window.arrived(size)
        self.items.append((sender, size, body, buffers))
        if self._readers:
            self._readers.unpark()

    def put_nowait(self, message: object) -> None:
        """Take a message of this process; WouldBlock if as many as the limit wait already."""
        self._check_open()
        if self._local >= self._limit:
            raise trio.WouldBlock
        self._local += 1
        self._take(message)

    async def put(self, message: object) -> None:
        """Take a message of this process, waiting while the mailbox is full; those who wait take turns."""
        self._check_open()
        if self._local < self._limit:
            self._local += 1
        else:
            await self._waiting.park()  # who wakes it leaves it the place of the message that was taken
            self._check_open()
        self._take(message)

    def put_last(self, message: object) -> None:
        """Take a message of the process itself, however full the mailbox is."""
        self._local += 1
        self._take(message)

    def _check_open(self) -> None:
        if self.closed:
            text = "the coroutine has ended; it takes no more messages"
            raise MailboxClosed(text)

    def _take(self, message: object) -> None:
        self.items.append((None, 0, message, ()))
        if self._readers:
            self._readers.unpark()

    # --- emptying

    def get_nowait(self) -> object:
        """Give the next message; WouldBlock if there is none.

        Raises:
            Exception: Whatever opening the message raised; that message is gone, the next ones are not.
        """
        items = self.items
        if not items:
            raise trio.WouldBlock
        sender, size, message, buffers = items.popleft()
        if sender is None:
            if self._waiting:
                self._waiting.unpark()
            else:
                self._local -= 1
            if not items:
                self._settle()
            return message.open() if type(message) is Packed else message
        due = sender.window.consumed(size)
        if not sender.owing:
            sender.owing = True
            self._owing.append(sender)
        if not items:
            self._settle()
        elif due:
            sender.pay(self._serial)
        return self.opener(message, buffers)

    def _settle(self) -> None:
        # All credit goes back as soon as the mailbox is empty, not when its coroutine waits the next time: a message
        # larger than the window may be waiting for just that, and the coroutine for something else.
        for sender in self._owing:
            sender.owing = False
            sender.pay(self._serial)
        self._owing.clear()

    async def wait(self) -> None:
        """Wait until there is a message."""
        while not self.items:
            await self._readers.park()

    # --- ending

    def forget(self, link: Link) -> None:
        """Drop the window of a link that is lost; what arrived by it stays."""
        self._senders.pop(link, None)

    def close(self) -> list[Link]:
        """Take no more messages; give the links whose senders must be told."""
        self.closed = True
        self.items.clear()
        self._waiting.unpark_all()
        return [link for link in self._senders if not link.lost]
