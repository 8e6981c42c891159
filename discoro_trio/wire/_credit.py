"""Flow control by credit: how much a sender may still send, and how much credit a receiver has to return.

This module owns the counting, on both sides of one window. Who has a window, and what waits for one, is with
the mailboxes.
"""

from __future__ import annotations

from .._errors import ProtocolError

_BATCHES = 4  # credit goes back in quarters of the window: few frames, and the sender seldom runs dry


class SendWindow:
    """The sender's side of a window.

    A message larger than the whole window goes when the window is entirely free.

    Args:
        messages: The window, in messages.
        size: The window, in bytes.
    """

    __slots__ = ("_all_messages", "_all_size", "_messages", "_size")

    def __init__(self, messages: int, size: int) -> None:
        self._all_messages = self._messages = messages
        self._all_size = self._size = size

    @property
    def free(self) -> tuple[int, int]:
        """The free messages and bytes; the bytes are below 0 while an oversized message is under way."""
        return self._messages, self._size

    def fits(self, size: int) -> bool:
        """Tell whether a message of `size` bytes may be sent now."""
        messages = self._messages
        return messages > 0 and (size <= self._size or messages == self._all_messages)

    def take(self, size: int) -> None:
        """Use credit for a message of `size` bytes.

        Raises:
            ValueError: It does not fit; ask `fits` first.
        """
        if not self.fits(size):
            message = f"{size} bytes do not fit: {self._messages} messages, {self._size} bytes are free"
            raise ValueError(message)
        self._messages -= 1
        self._size -= size

    def give(self, messages: int, size: int) -> None:
        """Take note of credit that the receiver returned.

        Raises:
            ProtocolError: It is more than was used.
        """
        free_messages, free_size = self._messages + messages, self._size + size
        within = free_messages <= self._all_messages and free_size <= self._all_size
        if messages < 0 or size < 0 or not within:
            text = f"a return of {messages} messages and {size} bytes of credit, more than was used"
            raise ProtocolError(text)
        self._messages, self._size = free_messages, free_size


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
        self._due_messages = self._due_size = 0  # of these: consumed

    def arrived(self, size: int) -> None:
        """Take note of a message of `size` bytes.

        Raises:
            ProtocolError: The sender had no credit for it.
        """
        messages = self._messages
        total = self._size + size
        if messages >= self._all_messages or (total > self._all_size and messages):
            window = f"{self._all_messages} messages, {self._all_size} bytes"
            text = f"a message of {size} bytes came without credit; the window is {window}"
            raise ProtocolError(text)
        self._messages = messages + 1
        self._size = total

    def consumed(self, size: int) -> bool:
        """Take note that a message of `size` bytes was taken out of the mailbox; tell whether credit is due."""
        self._due_messages = messages = self._due_messages + 1
        self._due_size += size
        return messages * _BATCHES >= self._all_messages or self._due_size * _BATCHES >= self._all_size

    def due(self) -> tuple[int, int]:
        """Give all credit that can be returned now, in messages and bytes, and count it as returned.

        It is worth its frame when `consumed` says so, after a quarter of the window, or when the mailbox is empty.
        """
        messages, size = self._due_messages, self._due_size
        self._messages -= messages
        self._size -= size
        self._due_messages = self._due_size = 0
        return messages, size
