"""Flow control by credit: how much a sender may still send, and how much credit a receiver has to return.

This module counts the credit on both sides of one window. The mailboxes own the windows and the senders that wait.
"""

from __future__ import annotations

from .._errors import ProtocolError

# Credit is returned in halves of the window: each return wakes the sender's process, and the sender's remaining credit
# lasts longer than the return takes. A sender that waits with a message larger than its remaining credit requests more.
_BATCHES = 2


class SendWindow:
    """The sender's side of a window.

    A message larger than the whole window goes when the window is entirely free.

    Args:
        messages: The window, in messages.
        size: The window, in bytes.

    Attributes:
        messages: The free part of the window, in messages.
        size: The free part in bytes; below 0 while an oversized message is in flight.
    """

    __slots__ = ("_all_messages", "_all_size", "messages", "size")

    def __init__(self, messages: int, size: int) -> None:
        self._all_messages: int = messages
        self._all_size: int = size
        self.messages: int = messages
        self.size: int = size

    @property
    def free(self) -> tuple[int, int]:
        """The free messages and bytes."""
        return self.messages, self.size

    def take(self, size: int) -> bool:
        """Use credit for a message of `size` bytes, if it fits. Return whether it does."""
        messages, free = self.messages, self.size
        if messages > 0 and (size <= free or messages == self._all_messages):
            self.messages = messages - 1
            self.size = free - size
            return True
        return False

    def missing(self, size: int) -> tuple[int, int]:
        """Return the credit, in messages and bytes, that a message of `size` bytes still needs."""
        if size > self._all_size:
            return self._all_messages - self.messages, self._all_size - self.size
        return int(not self.messages), max(0, size - self.size)

    def give(self, messages: int, size: int) -> None:
        """Record credit that the receiver returned.

        Raises:
            ProtocolError: It is more than was used.
        """
        free_messages, free_size = self.messages + messages, self.size + size
        within = free_messages <= self._all_messages and free_size <= self._all_size
        if messages < 0 or size < 0 or not within:
            text = f"a return of {messages} messages and {size} bytes of credit, more than was used"
            raise ProtocolError(text)
        self.messages, self.size = free_messages, free_size


class ReceiveWindow:
    """The receiver's side of a window.

    Args:
        messages: The window, in messages.
        size: The window, in bytes.
    """

    __slots__ = ("_all_messages", "_all_size", "_due_messages", "_due_size", "_messages", "_size")

    def __init__(self, messages: int, size: int) -> None:
        self._all_messages = messages
        self._all_size = size
        self._messages = self._size = 0  # arrived, credit not yet returned
        self._due_messages = self._due_size = 0  # the consumed part of these

    def arrived(self, size: int, count: int = 1) -> None:
        """Record the arrival of `count` messages of `size` bytes together.

        Raises:
            ProtocolError: The sender had no credit for them.
        """
        messages = self._messages + count
        total = self._size + size
        if messages > self._all_messages or (total > self._all_size and messages > 1):
            window = f"{self._all_messages} messages, {self._all_size} bytes"
            text = f"{count} messages of {size} bytes came without credit; the window is {window}"
            raise ProtocolError(text)
        self._messages = messages
        self._size = total

    def consumed(self, size: int, count: int = 1) -> bool:
        """Record that `count` messages of `size` bytes left the mailbox. Return whether credit is due."""
        self._due_messages = messages = self._due_messages + count
        self._due_size += size
        return messages * _BATCHES >= self._all_messages or self._due_size * _BATCHES >= self._all_size

    def covers(self, messages: int, size: int) -> bool:
        """Return whether this much credit can be returned now."""
        return self._due_messages >= messages and self._due_size >= size

    def due(self) -> tuple[int, int]:
        """Return all credit that can be returned now, in messages and bytes, and count it as returned.

        Send it when `consumed` returns True (after half of the window), or when the sender requests it.
        """
        messages, size = self._due_messages, self._due_size
        self._messages -= messages
        self._size -= size
        self._due_messages = self._due_size = 0
        return messages, size
