"""The memory that large buffers are received into.

This module owns how it is taken: so that a buffer which is announced and never comes costs nothing, so that the kernel
is asked for as few pages as possible, and so that `bytes` are received where they stay. What is received is with
`_frames`, what is copied with `_codec`.
"""

from __future__ import annotations

import ctypes
import io
import mmap
import sys
from typing import TYPE_CHECKING

from .._errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

MAPPED = 1024 * 1024
"""From so many bytes on memory is mapped instead of allocated.

An anonymous page takes room only when it is written, so that a frame of 4 GiB which is announced and never sent costs
nothing, and `bytearray(n)` would write every page. Below it the allocator is faster, and a mapping for each of
thousands of buffers would meet the kernel's limit.
"""

# The kernel clears huge pages about five times as fast as small ones; a smaller mapping would seldom hold one.
_HUGE = 4 * 1024 * 1024


def allocate(size: int) -> memoryview:
    """Take memory for `size` bytes; of many the kernel gives pages only as they are written.

    Raises:
        ProtocolError: There is not so much, even in theory.
    """
    if size < MAPPED:
        return memoryview(bytearray(size))
    # Private, or a forked server would write into its parent's; no swap is set aside, where the system lets one say.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except (OSError, OverflowError) as error:
        raise _no_memory(size) from error
    view = memoryview(memory)
    if size >= _HUGE:
        _advise(view)
    return view


class BytesMemory:
    """Memory that is filled and then is a `bytes` object, without a copy.

    Args:
        size: The number of bytes.

    Attributes:
        view: The memory, to be written to until `filled` is called.

    Raises:
        ProtocolError: There is no memory for so many.
    """

    __slots__ = ("_file", "view")

    def __init__(self, size: int) -> None:
        # A BytesIO that is the only one to hold its first bytes works on them, and gives them back as they are. Where
        # Python does otherwise, it copies them: slower, and as right.
        try:
            self._file = io.BytesIO(_unwritten(size))
        except (MemoryError, OverflowError) as error:
            raise _no_memory(size) from error
        self.view: memoryview = self._file.getbuffer()
        if size >= _HUGE:
            _advise(self.view)

    def filled(self) -> bytes:
        """Give the bytes; a part of `view` that is still kept makes it copy them."""
        self.view.release()
        return self._file.getvalue()


def copied(buffer: memoryview) -> bytes:
    """Give the bytes of a buffer, faster than `bytes` does if they are many."""
    if buffer.nbytes < _HUGE:
        return bytes(buffer)
    memory = BytesMemory(buffer.nbytes)
    memory.view[:] = buffer
    return memory.filled()


def _no_memory(size: int) -> ProtocolError:
    return ProtocolError(f"no memory for {size} bytes of a message")


def _find_unwritten() -> Callable[[int], bytes]:
    """Give what makes `bytes` whose content is still to be written; their pages are not touched."""
    if sys.implementation.name != "cpython":
        return bytes
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
        ("PyBytes_FromStringAndSize", ctypes.pythonapi)
    )

    def unwritten(size: int) -> bytes:
        made: bytes = make(None, size)
        return made

    return unwritten


def _find_madvise() -> Callable[[int, int, int], int] | None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)(
        ("madvise", ctypes.CDLL(None))
    )


_unwritten = _find_unwritten()
_madvise = _find_madvise()


def _advise(view: memoryview) -> None:
    """Ask for huge pages; a kernel that has none says so, and it is only slower."""
    if _madvise is not None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (address + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        _madvise(start, end - start, mmap.MADV_HUGEPAGE)
