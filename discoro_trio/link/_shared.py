"""Large buffers between processes of one machine, through memory that both map.

The sender copies a buffer into a segment: a memfd, mapped once, whose size and writability are sealed for all others.
The frame that refers to it goes over the connection in its place and order; the receiver opens the segment through
the sender's `/proc` entry, and maps it to be read only. When nothing there refers to the mapping any more, the sender
hears of it and uses the segment again. Linux only; wherever a step is not possible, buffers go over the connection as
if this module did not exist. Which links use it is with `_sharing`.
"""

from __future__ import annotations

import mmap
import os
import secrets
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import attrs

from .._config import MIB
from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from ..wire import Buffer

AVAILABLE = sys.platform == "linux" and hasattr(os, "memfd_create")
"""Whether this system has what it takes."""

LEAST = MIB
"""The bytes of a buffer from which on a segment is worth it."""

POOL_SIZE = 512 * MIB
"""The most bytes of all segments of a process together; what finds no room goes over the connection."""

MOST_SEGMENTS = 128
"""The most segments of a process: each takes two of its descriptors, of which it may have no more than 1,024."""

TOKEN_SIZE = 16

# From linux/fcntl.h; the module fcntl lacks the last one before Python 3.13.
_ADD_SEALS, _GET_SEALS = 1033, 1034
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_FUTURE_WRITE = 0x1, 0x2, 0x4, 0x10
# The mapping that the sender has already can still be written to, new ones cannot.
_SEALS = _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE


class Place(NamedTuple):
    """Where a buffer is to be found."""

    segment: int
    """The number of the segment at its process."""
    descriptor: int
    """Its descriptor there."""
    size: int
    """The bytes of the buffer."""


@attrs.define(eq=False)
class Segment:
    """Memory that others can map."""

    number: int
    descriptor: int
    memory: mmap.mmap
    reader: Hashable = None
    """Who maps it, or will as soon as a frame has arrived; None if it is free."""

    @classmethod
    def make(cls, number: int, size: int) -> Segment:
        """Make one of so many bytes; OSError if that is not possible."""
        import fcntl  # noqa: PLC0415 - not on all systems

        descriptor = os.memfd_create(f"discoro {number}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
            fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(number, descriptor, memory)

    def close(self) -> None:
        """Give the memory back, as soon as no reader maps it either."""
        self.memory.close()
        os.close(self.descriptor)


class Pool:
    """The segments of one process, and the token by which others see that they can open them."""

    def __init__(self, size: int = POOL_SIZE) -> None:
        self.token: bytes = secrets.token_bytes(TOKEN_SIZE)
        self._room = size
        self._segments: dict[int, Segment] = {}
        self._probe: Segment | None = None
        self._number = 0

    def probe(self) -> int | None:
        """Give the descriptor of a segment that holds the token; None if there can be no segments."""
        if self._probe is None and AVAILABLE:
            try:
                self._probe = Segment.make(0, TOKEN_SIZE)
            except OSError:
                return None
            self._probe.memory[:] = self.token
        return None if self._probe is None else self._probe.descriptor

    def put(self, buffer: Buffer, reader: Hashable) -> Place | None:
        """Copy a buffer into a segment for a reader; None if there is no room."""
        view = memoryview(buffer).cast("B")
        segment = self._free(view.nbytes)
        if segment is None:
            return None
        segment.memory[: view.nbytes] = view
        segment.reader = reader
        return Place(segment.number, segment.descriptor, view.nbytes)

    def _free(self, size: int) -> Segment | None:
        # A segment of more than twice the size is kept for larger ones: written pages stay in use.
        for segment in self._segments.values():
            if segment.reader is None and size <= len(segment.memory) <= 2 * size:
                return segment
        rounded = -(-size // MIB) * MIB
        while self._room < rounded:
            if not self._drop_unused():
                return None
        if len(self._segments) >= MOST_SEGMENTS and not self._drop_unused():
            return None
        self._number += 1
        try:
            segment = Segment.make(self._number, rounded)
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

    def _drop(self, segment: Segment) -> None:
        del self._segments[segment.number]
        self._room += len(segment.memory)
        segment.close()

    def released(self, number: int, reader: Hashable) -> None:
        """Note that a reader maps a segment no more."""
        segment = self._segments.get(number)
        if segment is not None and segment.reader is reader:
            segment.reader = None

    def lost(self, reader: Hashable) -> None:
        """Drop the segments of a reader of whom nothing will be heard any more; it may still map them."""
        for segment in [one for one in self._segments.values() if one.reader is reader]:
            self._drop(segment)

    def close(self) -> None:
        """Close all segments."""
        for segment in [*self._segments.values(), *([self._probe] if self._probe is not None else [])]:
            segment.close()
        self._segments.clear()
        self._probe = None


def read_probe_untrusted(process: int, descriptor: int, own_probe: int) -> bytes:
    """Read the token of another process's probe; b"" if it cannot be opened.

    Args:
        process: Its process number.
        descriptor: The number of the descriptor there.
        own_probe: That of this process's own, which lies in the same file system if both are segments.
    """
    try:
        opened = _open_untrusted(process, descriptor, own_probe, TOKEN_SIZE)
    except (OSError, ProtocolError):
        return b""
    try:
        return os.pread(opened, TOKEN_SIZE, 0)
    finally:
        os.close(opened)


def map_untrusted(process: int, place: Place, own_probe: int, largest: int) -> mmap.mmap:
    """Map a segment of another process, to be read; the mapping keeps a descriptor.

    Args:
        process: Its process number.
        place: The buffer.
        own_probe: The descriptor of this process's own probe.
        largest: The most bytes that a buffer may have.

    Raises:
        ProtocolError: It is no segment of that size that nobody can write to or make shorter.
    """
    with _opened_place_untrusted(process, place, own_probe, largest) as descriptor:
        return mmap.mmap(descriptor, place.size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)


def copy_untrusted(process: int, place: Place, own_probe: int, largest: int) -> bytes:
    """Copy what is in a segment of another process. Arguments and errors are as with `map_untrusted`."""
    with (
        _opened_place_untrusted(process, place, own_probe, largest) as descriptor,
        mmap.mmap(descriptor, place.size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as mapping,
    ):
        return bytes(mapping)


@contextmanager
def _opened_place_untrusted(process: int, place: Place, own_probe: int, largest: int) -> Iterator[int]:
    if not 0 < place.size <= largest:
        message = f"a shared buffer of {place.size} bytes; config.max_message_size allows {largest}"
        raise ProtocolError(message)
    try:
        descriptor = _open_untrusted(process, place.descriptor, own_probe, place.size)
    except OSError as error:
        message = f"a shared buffer cannot be opened: {error.strerror}"
        raise ProtocolError(message) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_untrusted(process: int, descriptor: int, own_probe: int, size: int) -> int:
    import fcntl  # noqa: PLC0415 - not on all systems

    path = f"/proc/{process:d}/fd/{descriptor:d}"
    # Looked at before it is opened: opening something else than a file could wait, or do something.
    _check_untrusted(Path(path).stat(), own_probe, size)
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_untrusted(os.fstat(opened), own_probe, size)
        _check_seals_untrusted(fcntl.fcntl(opened, _GET_SEALS))
    except BaseException:
        os.close(opened)
        raise
    return opened


def _check_seals_untrusted(seals: int) -> None:
    if seals & _SEALS != _SEALS:
        message = "a shared buffer that is not sealed"
        raise ProtocolError(message)


def _check_untrusted(found: os.stat_result, own_probe: int, size: int) -> None:
    own = os.fstat(own_probe)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != own.st_dev or found.st_size < size:
        message = "a shared buffer that is no segment, or too short"
        raise ProtocolError(message)
