"""Segments of other processes, mapped by this one, and what is opened to map them.

A segment is opened through its process's `/proc` entry, and only if it is what `_pool` makes. It is mapped privately:
what the receiver writes to a buffer goes to copies of its pages, which nobody else sees. It stays mapped as long as a
buffer in it is referred to, and beyond that until its process drops it: for what is put into it next nothing is to be
mapped then, and no page is to be looked for but those that the receiver had copies of, which are discarded.
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

    from ._pool import Place

MOST_MAPPED = 4096
"""The most segments of others that a process maps at once: the system bounds mappings."""

_GET_SEALS = 1034  # from linux/fcntl.h
_FAILED = ctypes.c_void_p(-1).value


@cache
def _calls() -> tuple[Callable[..., int | None], Callable[..., int], Callable[..., int]]:
    """Give the system's own calls: an object of `mmap` cannot tell when the last view of it is gone and yet stay."""
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
        size: The same.
        users: How many of its views are known to be still referred to; for its owner to count.

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
        """Give the first so many bytes; what is written to them stays in this process.

        Args:
            size: How many.
            gone: Is called when nothing refers to them any more, in whatever thread; not at the end of the program.
            arguments: What it is called with, after the segment itself.
        """
        # A view of a view, or an array over it, keeps neither, but always what exports the memory.
        exporter = self._exporter.from_address(self._address)
        weakref.finalize(exporter, gone, self, *arguments).atexit = False
        return memoryview(exporter).cast("B")[:size]

    def discard_changes(self) -> None:
        """Drop the copies of pages that were written to in this process; nothing may refer to the segment any more."""
        if _holds_copies(self._address, self.size):
            _, _, advise = _calls()
            advise(self._address, self.size, mmap.MADV_DONTNEED)


PAGE_MAP = "/proc/self/pagemap"
_PAGE_ENTRY = 8  # the bytes of one of its entries; of the highest bits the kernel documents these:
_PRESENT, _SWAPPED, _OF_FILE = 0x80, 0x40, 0x20


def _holds_copies(address: int, size: int) -> bool:
    """Tell whether a private mapping has pages of its own. To look is much faster than to map all pages again."""
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
    """The segments of others that a process maps: no more than `MOST_MAPPED`."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Hashable, int], MappedSegment] = {}  # the one whose use is longest ago comes first
        self._all: weakref.WeakSet[MappedSegment] = weakref.WeakSet()

    def find(self, owner: Hashable, place: Place) -> MappedSegment | None:
        """Give a segment that is mapped already, and as far as the buffer in it goes."""
        segment = self._kept.pop((owner, place.segment), None)
        if segment is None or segment.size < place.size:
            return None
        self._kept[owner, place.segment] = segment
        return segment

    def room(self) -> bool:
        """See that one more can be mapped, at the expense of one without users; tell whether it can."""
        while len(self._all) >= MOST_MAPPED:
            unused = next((key for key, segment in self._kept.items() if not segment.users), None)
            if unused is None:
                return False
            del self._kept[unused]
        return True

    def keep(self, owner: Hashable, number: int, segment: MappedSegment) -> None:
        """Note what was mapped, to be found again until it is dropped."""
        self._kept[owner, number] = segment
        self._all.add(segment)

    def drop(self, owner: Hashable, number: int) -> None:
        """Forget a segment that its owner does not use again; what still refers to it keeps it mapped."""
        self._kept.pop((owner, number), None)

    def lost(self, owner: Hashable) -> None:
        """Forget all segments of an owner."""
        for key in [key for key in self._kept if key[0] is owner]:
            del self._kept[key]


def read_probe_untrusted(process: int, descriptor: int, own_probe: int) -> bytes:
    """Read the token of another process's probe; b"" if it cannot be opened.

    Args:
        process: Its process number.
        descriptor: The number of the descriptor there.
        own_probe: That of this process's own, which lies in the same file system if both are segments.
    """
    try:
        opened = open_untrusted(process, descriptor, own_probe, TOKEN_SIZE)
    except (OSError, ProtocolError):
        return b""
    try:
        return os.pread(opened, TOKEN_SIZE, 0)
    finally:
        os.close(opened)


def map_untrusted(process: int, place: Place, own_probe: int, largest: int) -> MappedSegment:
    """Map a segment of another process.

    Args:
        process: Its process number.
        place: The buffer in it that is there now.
        own_probe: The descriptor of this process's own probe.
        largest: The most bytes that a buffer may have.

    Raises:
        ProtocolError: It is no segment of that size that nobody can write to or make shorter.
    """
    with _opened_place_untrusted(process, place, own_probe, largest) as descriptor:
        # Whole, for larger buffers may follow; a sender puts none into a segment of more than twice the size.
        try:
            return MappedSegment(descriptor, min(os.fstat(descriptor).st_size, 2 * place.size))
        except OSError as error:
            message = f"a shared buffer cannot be mapped: {error.strerror}"
            raise ProtocolError(message) from error


def copy_untrusted(process: int, place: Place, own_probe: int, largest: int) -> bytearray:
    """Copy what is in a segment of another process. Arguments and errors are as with `map_untrusted`."""
    with (
        _opened_place_untrusted(process, place, own_probe, largest) as descriptor,
        mmap.mmap(descriptor, place.size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as mapping,
    ):
        return bytearray(mapping)


def check_size_untrusted(place: Place, largest: int) -> None:
    """Refuse a buffer that is larger than allowed, or empty.

    Raises:
        ProtocolError: It is.
    """
    if not 0 < place.size <= largest:
        message = f"a shared buffer of {place.size} bytes; config.max_message_size allows {largest}"
        raise ProtocolError(message)


@contextmanager
def _opened_place_untrusted(process: int, place: Place, own_probe: int, largest: int) -> Iterator[int]:
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
    """Open a sealed segment of another process, to be read; give the descriptor.

    Args:
        process: Its process number.
        descriptor: That of the segment there.
        own_probe: The descriptor of this process's own probe.
        size: The bytes that it must have at least.

    Raises:
        ProtocolError: It is no segment of that size that nobody can write to or make shorter.
        OSError: It cannot be opened.
    """
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
    if seals & SEALS != SEALS:
        message = "a shared buffer that is not sealed"
        raise ProtocolError(message)


def _check_untrusted(found: os.stat_result, own_probe: int, size: int) -> None:
    own = os.fstat(own_probe)
    if not stat.S_ISREG(found.st_mode) or found.st_dev != own.st_dev or found.st_size < size:
        message = "a shared buffer that is no segment, or too short"
        raise ProtocolError(message)
