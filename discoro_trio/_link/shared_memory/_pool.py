"""Large buffers between processes of one machine, through memory that both map.

The sender copies a buffer into a segment: a memfd, mapped once, and sealed so that no other process can resize or
write it. A frame that refers to it is sent over the connection in the usual order. When nothing at the receiver refers
to the buffer any more, the receiver notifies the sender, which reuses the segment. The receiver keeps it mapped until
the sender reports that it has dropped it. Linux only; if any step is not possible, buffers go over the connection.
`_mapping` is the receiver's half; `_sharing` decides which links use shared memory.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import msgspec

from ..._config import MIB
from ..._records import MutableRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._wire import Buffer

AVAILABLE = sys.platform == "linux" and hasattr(os, "memfd_create")
"""Whether this system supports shared memory."""

LEAST = MIB
"""The minimum size in bytes of a buffer for which a segment is worth it."""

POOL_SIZE = 512 * MIB
"""The most bytes of all segments of a process; buffers that do not fit go over the connection."""

MOST_SEGMENTS = 128
"""The most segments of a process: each takes two of its descriptors, of which it may have no more than 1,024."""

TOKEN_SIZE = 16

ReaderT = TypeVar("ReaderT")

# From linux/fcntl.h; the module fcntl lacks the last seal before Python 3.13.
_ADD_SEALS = 1033
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_WRITE, _SEAL_FUTURE_WRITE = 0x1, 0x2, 0x4, 0x8, 0x10
# The sender's existing mapping stays writable; new mappings are not.
SEALS = _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE
"""The seals of every segment, so that its readers can neither be harmed nor do harm."""


def seal(descriptor: int) -> None:
    """Seal a memfd, so that no process can change it any more, including this one."""
    import fcntl  # noqa: PLC0415 - not on all systems

    fcntl.fcntl(descriptor, _ADD_SEALS, SEALS | _SEAL_WRITE)


class BufferPlace(NamedTuple):
    """The location of a buffer."""

    segment: int
    """The number of the segment in its process."""
    descriptor: int
    """Its descriptor in that process."""
    size: int
    """The size of the buffer in bytes."""


class Segment(MutableRecord, Generic[ReaderT], eq=False):
    """Memory that others can map."""

    number: int
    descriptor: int
    memory: mmap.mmap
    reader: ReaderT | None = None
    """The reader that refers to its buffer, or will when a frame has arrived; None if it is free."""
    known: set[ReaderT] = msgspec.field(default_factory=set)
    """The readers that have read it and may keep it mapped."""

    @classmethod
    def make(cls, number: int, size: int) -> Segment[ReaderT]:
        """Make a segment with this many bytes; OSError if that is not possible."""
        import fcntl  # noqa: PLC0415 - not on all systems

        descriptor = os.memfd_create(f"discoro {number}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
            fcntl.fcntl(descriptor, _ADD_SEALS, SEALS)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(number, descriptor, memory)

    def close(self) -> None:
        """Release the memory; the system frees it when no reader maps it any more."""
        self.memory.close()
        os.close(self.descriptor)


class Pool(Generic[ReaderT]):
    """The segments of one process, and the token with which others check that they can open them.

    Args:
        dropped: Called with each reader that may keep a segment mapped, and the number of the segment, when the
            segment is not used again.
        size: The most bytes of all segments together.
    """

    def __init__(self, dropped: Callable[[ReaderT, int], None], size: int = POOL_SIZE) -> None:
        self.token: bytes = secrets.token_bytes(TOKEN_SIZE)
        self._dropped = dropped
        self._room = size
        self._segments: dict[int, Segment[ReaderT]] = {}
        self._probe: Segment[ReaderT] | None = None
        self._number = 0

    def probe(self) -> int | None:
        """Return the descriptor of a segment that holds the token; None if segments are not possible."""
        if self._probe is None and AVAILABLE:
            try:
                self._probe = Segment.make(0, TOKEN_SIZE)
            except OSError:
                return None
            self._probe.memory[:] = self.token
        return None if self._probe is None else self._probe.descriptor

    def put(self, buffer: Buffer, reader: ReaderT) -> BufferPlace | None:
        """Copy a buffer into a segment for a reader; None if there is no room."""
        view = memoryview(buffer).cast("B")
        segment = self._free(view.nbytes, reader)
        if segment is None:
            return None
        segment.memory[: view.nbytes] = view
        segment.reader = reader
        segment.known.add(reader)
        return BufferPlace(segment.number, segment.descriptor, view.nbytes)

    def _free(self, size: int, reader: ReaderT) -> Segment[ReaderT] | None:
        # A segment of more than twice the size is kept for larger buffers: written pages stay in use.
        segments = self._segments.values()
        free = [one for one in segments if one.reader is None and size <= len(one.memory) <= 2 * size]
        if free:
            return next((one for one in free if reader in one.known), free[0])
        return self._make(size)

    def _make(self, size: int) -> Segment[ReaderT] | None:
        rounded = -(-size // MIB) * MIB
        while self._room < rounded:
            if not self._drop_unused():
                return None
        if len(self._segments) >= MOST_SEGMENTS and not self._drop_unused():
            return None
        self._number += 1
        try:
            segment: Segment[ReaderT] = Segment.make(self._number, rounded)
        except OSError:
            return None
        self._segments[segment.number] = segment
        self._room -= rounded
        return segment

    def _drop_unused(self) -> bool:
        unused = next((one for one in self._segments.values() if one.reader is None), None)
        if unused is not None:
            self._drop(unused)
        return unused is not None

    def _drop(self, segment: Segment[ReaderT]) -> None:
        del self._segments[segment.number]
        self._room += len(segment.memory)
        segment.close()
        for reader in segment.known:
            self._dropped(reader, segment.number)

    def released(self, number: int, reader: ReaderT) -> None:
        """Record that a reader no longer refers to a segment."""
        segment = self._segments.get(number)
        if segment is not None and segment.reader is reader:
            segment.reader = None

    def lost(self, reader: ReaderT) -> None:
        """Drop the segments of a reader that is gone; it may still refer to them."""
        for segment in self._segments.values():
            segment.known.discard(reader)
        for segment in [one for one in self._segments.values() if one.reader is reader]:
            self._drop(segment)

    def close(self) -> None:
        """Close all segments."""
        for segment in [*self._segments.values(), *([self._probe] if self._probe is not None else [])]:
            segment.close()
        self._segments.clear()
        self._probe = None
