"""The mailbox of one coroutine: the messages that have arrived, and the credit to return to the sending processes.

This module owns the order of messages and the receiving half of flow control. Sending is in `_message_sender`, frames
are in `_mail`. A mailbox is bounded: it holds for each sending process its limit of messages and of bytes, or one
larger message, and for its own process its limit of messages.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from ..._errors import MailboxClosed
from ..._shipping import dumps, loads
from ..._wire import COST, Kind, ReceiveWindow
from ._forwarded import ForwardedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._link import Link
    from ..._wire import Buffer
    from .._checkpoints import Checkpoints

CREDIT = struct.Struct("!IQ")
"""The body of a CREDIT frame: the messages and bytes that are returned, or with `ASKED`, that a sender waits for."""

ASKED = 1
"""The flag of a CREDIT frame that requests credit."""

# The credit for a run of messages is counted when its last one is received. So a run is much shorter than the quarter
# of the window after which credit is returned.
_RUNS = 16


class _Sender:
    """One process that sends to the mailbox, on one link."""

    __slots__ = ("link", "wanted", "window")

    def __init__(self, link: Link, window: ReceiveWindow) -> None:
        self.link = link
        self.window = window
        self.wanted: tuple[int, int] | None = None  # the messages and bytes that it waits for

    def pay(self, serial: int) -> None:
        """Return the credit for received messages."""
        self.wanted = None
        messages, size = self.window.due()
        if messages and not self.link.lost:
            self.link.send(Kind.CREDIT, serial, CREDIT.pack(messages, size))


class _Run:
    """Messages that arrived together.

    Attributes:
        sender: The sender of the messages.
        messages: The decoded messages in reverse order; each is taken from the end.
        count: The number of messages that arrived.
    """

    __slots__ = ("count", "messages", "sender")

    def __init__(self, sender: _Sender, messages: list[object]) -> None:
        messages.reverse()
        self.sender = sender
        self.messages = messages
        self.count = len(messages)


class Mailbox:
    """A queue of messages with a window for each sending process.

    Attributes:
        run: The rest of the run of messages that is being received, in reverse order.
        turns: Decides when the receiving coroutine lets other tasks run.
        opener: Makes a message from its body and buffers; channels leave messages packed.
        closed: Whether it takes no more messages.
    """

    __slots__ = (
        "_begun",
        "_items",
        "_limit",
        "_local",
        "_readers",
        "_run_length",
        "_senders",
        "_serial",
        "_size",
        "_waiting",
        "closed",
        "opener",
        "run",
        "turns",
    )

    def __init__(self, serial: int, limit: int, size: int, turns: Checkpoints) -> None:
        self.closed: bool = False
        self.turns: Checkpoints = turns
        self.opener: Callable[[Any, Sequence[Any]], object] = loads
        self._serial = serial
        self._limit = limit
        self._run_length = max(1, limit // _RUNS)
        self._size = size
        self._items: deque[tuple[_Sender | None, int, object, Sequence[Buffer]] | _Run] = deque()
        self._begun: _Run | None = None  # the run that is being received
        self.run: list[object] = []
        self._local = 0
        self._senders: dict[Link, _Sender] = {}
        self._readers = trio.lowlevel.ParkingLot()
        self._waiting = trio.lowlevel.ParkingLot()

    def __bool__(self) -> bool:
        """Return whether a message waits to be received."""
        return bool(self.run or self._items)

    # --- filling

    def arrived(self, link: Link, body: object, buffers: Sequence[Buffer], size: int) -> None:
        """Add a message of another process; ProtocolError if it exceeds the window."""
        sender = self._senders.get(link) or self._new_sender(link)
        sender.window.arrived(size)
        self._items.append((sender, size, body, buffers))
        if self._readers:
            self._readers.unpark()

    def arrived_together(self, link: Link, messages: list[object]) -> None:
        """Add short messages of another process; ProtocolError if they exceed the window."""
        sender = self._senders.get(link) or self._new_sender(link)
        count = len(messages)
        sender.window.arrived(COST * count, count)
        length = self._run_length
        if self.opener is not loads:
            self._items.extend((sender, COST, *dumps(message)) for message in messages)
        elif count <= length:
            self._items.append(_Run(sender, messages))
        else:
            self._items.extend(_Run(sender, messages[begin : begin + length]) for begin in range(0, count, length))
        if self._readers:
            self._readers.unpark(count=count)

    def _new_sender(self, link: Link) -> _Sender:
        sender = self._senders[link] = _Sender(link, ReceiveWindow(self._limit, self._size))
        return sender

    def put_nowait(self, message: object) -> None:
        """Add a message of this process; WouldBlock if the limit of unreceived messages is reached."""
        self._check_open()
        if self._local >= self._limit:
            raise trio.WouldBlock
        self._local += 1
        self._take(message)

    async def put(self, message: object) -> None:
        """Add a message of this process, waiting while the mailbox is full; waiting senders are served in order."""
        self._check_open()
        if self._local < self._limit:
            self._local += 1
        else:
            await self._waiting.park()  # the receiver that wakes it reserves the room of the received message for it
            self._check_open()
        self._take(message)

    def put_last(self, message: object) -> None:
        """Add a message of the process itself, even if the mailbox is full."""
        self._local += 1
        self._take(message)

    def _check_open(self) -> None:
        if self.closed:
            text = "the coroutine has ended; it takes no more messages"
            raise MailboxClosed(text)

    def _take(self, message: object) -> None:
        self._items.append((None, 0, message, ()))
        if self._readers:
            self._readers.unpark()

    # --- emptying

    def get_nowait(self) -> object:
        """Return the next message; WouldBlock if there is none.

        Raises:
            Exception: Unpickling the message raised it. That message is lost; the next ones are not.
        """
        run = self.run
        if not run:
            if not self._items:
                raise trio.WouldBlock
            item = self._items.popleft()
            if type(item) is not _Run:
                return self._opened(*item)  # type: ignore[misc]
            self._begun = item
            run = self.run = item.messages
        message = run.pop()
        if not run:
            begun, self._begun = self._begun, None
            assert begun is not None  # noqa: S101 - messages of it were received
            self._received(begun.sender, COST * begun.count, begun.count)
        return message

    def _opened(self, sender: _Sender | None, size: int, message: Any, buffers: Sequence[Buffer]) -> object:
        if sender is None:
            if self._waiting:
                self._waiting.unpark()
            else:
                self._local -= 1
            return message.open() if type(message) is ForwardedMessage else message
        self._received(sender, size, 1)
        return self.opener(message, buffers)

    def _received(self, sender: _Sender, size: int, count: int) -> None:
        if sender.window.consumed(size, count) or (sender.wanted and sender.window.covers(*sender.wanted)):
            sender.pay(self._serial)

    def asked(self, link: Link, messages: int, size: int) -> None:
        """Return this much credit to a waiting sender as soon as possible, instead of only in large batches."""
        # This may arrive before the messages whose credit it is about, as they may be queued behind another large one.
        sender = self._senders.get(link) or self._new_sender(link)
        sender.wanted = messages, size
        if sender.window.covers(messages, size):
            sender.pay(self._serial)

    async def wait(self) -> None:
        """Wait until there is a message."""
        while not (self.run or self._items):
            await self._readers.park()

    # --- ending

    def forget(self, link: Link) -> None:
        """Drop the window of a lost link; messages that arrived on it stay."""
        self._senders.pop(link, None)

    def close(self) -> list[Link]:
        """Take no more messages; return the links whose senders must be notified."""
        self.closed = True
        self._items.clear()
        self.run.clear()
        self._waiting.unpark_all()
        return [link for link in self._senders if not link.lost]
