"""What a peer's own frames have caused that is not yet written to it: receipts, the word that a coroutine has ended.

Such answers go without waiting, as the reader waits for nobody; so one that sends and sends and never reads could fill
the memory of whom it asks. This module counts them. When they are too many, the link reads no more until they have
gone out. Two processes that are at odds with nobody never wait for each other by that: an answer has a few bytes, and
what is large and asked for (`Link.send_kept`) does not count, as it existed before.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ._writer import HIGH_WATER

if TYPE_CHECKING:
    from .._wire import Outbox


class ReplyBacklog:
    """The answers that wait in an outbox, in bytes.

    Args:
        outbox: Where they wait.
    """

    __slots__ = ("_before", "_due", "_kept", "_outbox", "_size")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._before = 0  # where the small frames ended when a read began
        self._kept = 0  # what does not count of those that were put since then
        self._due: deque[tuple[int, int]] = deque()  # where answers end among all small frames, and their bytes
        self._size = 0

    def begin(self) -> None:
        """Note that what is put from now on is caused by the peer."""
        self._before = self._outbox.position
        self._kept = 0

    def spare(self, size: int) -> None:
        """Note that of what is put, so many bytes do not count."""
        self._kept += size

    def end(self) -> bool:
        """Note that what is put from now on has other causes; tell whether too much waits."""
        end = self._outbox.position
        added = end - self._before - self._kept
        if added > 0:
            self._due.append((end, added))
            self._size += added
        elif not self._due:
            return False
        written = self._outbox.taken
        while self._due and self._due[0][0] <= written:
            self._size -= self._due.popleft()[1]
        return self._size > HIGH_WATER
