"""Counts the replies to a peer's own frames that are not yet written: receipts, and notices of ended coroutines.

Such replies are queued without waiting, because the reader does not wait. So a peer that sends and never reads could
fill the memory of this process. If the backlog is too large, the link stops reading until it is written. Two peers that
behave well never block each other this way: a reply has a few bytes, and large data that was requested
(`Link.send_kept`) does not count, because this process held it before.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ._writer import HIGH_WATER

if TYPE_CHECKING:
    from .._wire import Outbox


class ReplyBacklog:
    """The replies that wait in an outbox, in bytes.

    Args:
        outbox: The outbox.
    """

    __slots__ = ("_before", "_due", "_kept", "_outbox", "_size")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._before = 0  # the position after the small frames when a read began
        self._kept = 0  # bytes queued since then that do not count
        self._due: deque[tuple[int, int]] = deque()  # the positions where replies end, and their bytes
        self._size = 0

    def begin(self) -> None:
        """Count the frames that are queued from now on: they are replies to the peer."""
        self._before = self._outbox.position
        self._kept = 0

    def spare(self, size: int) -> None:
        """Exclude so many of the queued bytes from the count."""
        self._kept += size

    def end(self) -> bool:
        """Stop counting: frames queued from now on have other causes. Return whether the backlog is too large."""
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
