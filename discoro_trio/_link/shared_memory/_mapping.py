"""Opens and maps segments of other processes.

A segment is opened through its process's `/proc` entry, and only if `_pool` has made it. It is mapped privately: when
the receiver writes to a buffer, it writes to private copies of the pages. A segment stays mapped while a buffer in it
is referenced, and after that until its process drops it. So the next buffer in it needs no new mapping; only the pages
that the receiver had copied are discarded and read again.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import sys
import weakref
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._errors import ProtocolError
from ._pool import SEALS, TOKEN_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from ._pool import BufferPlace

MOST_MAPPED = 4096
"""The most segments of others that a process maps at once: the system limits the number of mappings."""

_GET_SEALS = 1034  # from linux/fcntl.h
_FAILED = ctypes.c_void_p(-1).value


@cache
def _calls() -> tuple[Callable[..., int | None], Callable[..., int], Callable[..., int]]:
    """Return the system calls: an `mmap` object cannot report that its last view is gone and still stay mapped."""
    library = ctypes.CDLL(None, use_errno=True)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    map_ = ctypes.CFUNCTYPE(pointer, pointer, size, number, number, number, ctypes.c_int64, use_errno=True)
    unmap = ctypes.CFUNCTYPE(number, pointer, size)
    advise = ctypes.CFUNCTYPE(number, pointer, size, number)
    return map_(("mmap", library)), unmap(("munmap", library)), advise(("madvise", library))


class MappedSegment:
    """A segment of another process in the memory of this one; unmapped when nothing refers to it or to a view of it.

    Args:
        descriptor: The segment; may be closed afterwards.
        size: How many bytes of it to map.

    Attributes:
        size: The number of mapped bytes.
        users: The number of its views that are still referenced; its owner counts them.

    Raises:
        OSError: It cannot be mapped.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        map_, unmap, _ = _calls()
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        address = map_(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0)
        if address is None or address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        weakref.finalize(self, unmap, address, size).atexit = False
        self.size = size
        self.users: int = 0
        self._address = address
        self._exporter = ctypes.c_ubyte * size

    def view(self, size: int, gone: Callable[..., None], *arguments: Any) -> memoryview:
        """Return a view of the first bytes; writes to it are visible only in this process.

        Args:
            size: The number of bytes.
            gone: Called, in any thread, when nothing refers to the view any more; not at the end of the program.
            arguments: Its arguments, after the segment itself.
        """
        # A view of a view, or an array over it, keeps neither, but always what exports the memory.
        exporter = self._exporter.from_address(self._address)
        weakref.finalize(exporter, gone, self, *arguments).atexit = False
        return memoryview(exporter).cast("B")[:size]

    def discard_changes(self) -> None:
        """Drop the copies of pages that this process has written; nothing may refer to the segment any more."""
        if _holds_copies(self._address, self.size):
            _, _, advise = _calls()
            advise(self._address, self.size, mmap.MADV_DONTNEED)


PAGE_MAP = "/proc/self/pagemap"
_PAGE_ENTRY = 8  # the bytes of one of its entries; of the highest bits the kernel documents these:
_PRESENT, _SWAPPED, _OF_FILE = 0x80, 0x40, 0x20


def _holds_copies(address: int, size: int) -> bool:
    """Return whether a private mapping has copied pages. This check is much faster than mapping all pages again."""
    first, count = address // mmap.PAGESIZE, -(-size // mmap.PAGESIZE)
    try:
        descriptor = os.open(PAGE_MAP, os.O_RDONLY | os.O_CLOEXEC)
        try:
            entries = os.pread(descriptor, count * _PAGE_ENTRY, first * _PAGE_ENTRY)
        finally:
            os.close(descriptor)
    except OSError:
        return True
    if len(entries) < count * _PAGE_ENTRY:
        return True
    highest = entries[_PAGE_ENTRY - 1 :: _PAGE_ENTRY] if sys.byteorder == "little" else entries[::_PAGE_ENTRY]
    return any(bits & (_PRESENT | _SWAPPED) and not bits & _OF_FILE for bits in set(highest))


class Mappings:
    """The segments of other processes that a process maps: no more than `MOST_MAPPED`."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, int], MappedSegment] = {}  # the one whose use is longest ago comes first
        self._all: weakref.WeakSet[MappedSegment] = weakref.WeakSet()

    def find(self, owner: Hashable, place: BufferPlace) -> MappedSegment | None:
        """Return a segment that is already mapped, with at least the bytes of the buffer; None if there is none."""
        segment = self._kept.pop((owner, place.segment), None)
        if segment is None or segment.size < place.size:
            return None
        self._kept[owner, place.segment] = segment
        return segment

    def room(self) -> bool:
        """Make room for one more segment, by dropping an unused one if needed. Return whether there is room."""
        while len(self._all) >= MOST_MAPPED:
            unused = next((key for key, segment in self._kept.items() if not segment.users), None)
            if unused is None:
                return False
            del self._kept[unused]
        return True

    def keep(self, owner: Hashable, number: int, segment: MappedSegment) -> None:
        """Store a mapped segment, to be found again until it is dropped."""
        self._kept[owner, number] = segment
        self._all.add(segment)

    def drop(self, owner: Hashable, number: int) -> None:
        """Forget a segment that its owner does not use again; references to it keep it mapped."""
        self._kept.pop((owner, number), None)

    def lost(self, owner: Hashable) -> None:
        """Forget all segments of an owner."""
        for key in [key for key in self._kept if key[0] is owner]:
            del self._kept[key]


def read_probe_untrusted(process: int, descriptor: int, own_probe: int) -> bytes:
    """Read the token of another process's probe; b"" if it cannot be opened.

    Args:
        process: Its process number.
        descriptor: The number of the descriptor in that process.
        own_probe: The descriptor of this process's own probe, in the same file system if both are segments.
    """
    try:
        opened = open_untrusted(process, descriptor, own_probe, TOKEN_SIZE)
    except (OSError, ProtocolError):
        return b""
    try:
        return os.pread(opened, TOKEN_SIZE, 0)
    finally:
        os.close(opened)


def map_untrusted(process: int, place: BufferPlace, own_probe: int, largest: int) -> MappedSegment:
    """Map a segment of another process.

    Args:
        process: Its process number.
        place: The current buffer in it.
        own_probe: The descriptor of this process's own probe.
        largest: The most bytes that a buffer may have.

    Raises:
        ProtocolError: It is not a segment of that size that is sealed against writing and shrinking.
    """
    with _opened_place_untrusted(process, place, own_probe, largest) as descriptor:
        # The whole segment, because larger buffers may follow; a sender uses segments of at most twice the size.
        try:
            return MappedSegment(descriptor, min(os.fstat(descriptor).st_size, 2 * place.size))
        except OSError as error:
            message = f"a shared buffer cannot be mapped: {error.strerror}"
            raise ProtocolError(message) from error


def copy_untrusted(process: int, place: BufferPlace, own_probe: int, largest: int) -> bytearray:
    """Copy the buffer in a segment of another process. Arguments and errors are as in `map_untrusted`."""
    with (
        _opened_place_untrusted(process, place, own_probe, largest) as descriptor,
        mmap.mmap(descriptor, place.size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as mapping,
    ):
        return bytearray(mapping)


def check_size_untrusted(place: BufferPlace, largest: int) -> None:
    """Refuse a buffer that is larger than allowed, or empty.

    Raises:
        ProtocolError: It is.
    """
    if not 0 < place.size <= largest:
        message = f"a shared buffer of {place.size} bytes; config.max_message_size allows {largest}"
        raise ProtocolError(message)


@contextmanager
def _opened_place_untrusted(process: int, place: BufferPlace, own_probe: int, largest: int) -> Iterator[int]:
    check_size_untrusted(place, largest)
    try:
        descriptor = open_untrusted(process, place.descriptor, own_probe, place.size)
    except OSError as error:
        message = f"a shared buffer cannot be opened: {error.strerror}"
        raise ProtocolError(message) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_untrusted(process: int, descriptor: int, own_probe: int, size: int) -> int:
    """Open a sealed segment of another process for reading. Return the descriptor.

    Args:
        process: Its process number.
        descriptor: The descriptor of the segment in that process.
        own_probe: The descriptor of this process's own probe.
        size: Its minimum size in bytes.

    Raises:
        ProtocolError: It is not a segment of that size that is sealed against writing and shrinking.
        OSError: It cannot be opened.
    """
    import fcntl  # noqa: PLC0415 - not on all systems

    path = f"/proc/{process:d}/fd/{descriptor:d}"
    # Checked before it is opened: opening anything but a file could block, or have side effects.
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
    if seals & SEALS != SEALS:
        message = "a shared buffer that is not sealed"
        raise ProtocolError(message)


def _check_untrusted(found: os.stat_result, own_probe: int, size: int) -> None:
    own = os.fstat(own_probe)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != own.st_dev or found.st_size < size:
        message = "a shared buffer that is not a segment, or too short"
        raise ProtocolError(message)
