"""The memory for large received buffers.

A buffer that is announced and never arrives must cost nothing, few pages should be requested from the kernel, and
`bytes` should be received where they stay. `_frames` decides what is received, `_codec` what is copied.
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
"""Memory of at least this many bytes is mapped instead of allocated.

An anonymous page uses memory only when it is written, so a frame of 4 GiB that is announced and never sent costs
nothing; `bytearray(n)` would write every page. For less, the allocator is faster, and a mapping for each of thousands
of buffers would exceed the kernel's limit.
"""

# The kernel clears huge pages about five times as fast as small ones; a smaller mapping would rarely contain one.
_HUGE = 4 * 1024 * 1024


def allocate(size: int) -> memoryview:
    """Allocate memory for `size` bytes; if they are many, the kernel provides pages only as they are written.

    Raises:
        ProtocolError: The system cannot provide that much memory.
    """
    if size < MAPPED:
        return memoryview(bytearray(size))
    # Private, or a forked server would write into its parent's memory; without reserving swap, where the system can.
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
    """Memory that is filled and then becomes a `bytes` object, without a copy.

    Args:
        size: The number of bytes.

    Attributes:
        view: The memory; it may be written until `filled` is called.

    Raises:
        ProtocolError: There is not enough memory.
    """

    __slots__ = ("_file", "view")

    def __init__(self, size: int) -> None:
        # A BytesIO with the only reference to its initial bytes works on them directly, and returns them as they are.
        # If Python behaves otherwise, it copies them: slower, but still correct.
        try:
            self._file = io.BytesIO(_unwritten(size))
        except (MemoryError, OverflowError) as error:
            raise _no_memory(size) from error
        self.view: memoryview = self._file.getbuffer()
        if size >= _HUGE:
            _advise(self.view)

    def filled(self) -> bytes:
        """Return the bytes; if a part of `view` is still referenced, they are copied."""
        self.view.release()
        return self._file.getvalue()


def copied(buffer: memoryview) -> bytes:
    """Return the bytes of a buffer; faster than `bytes()` for large buffers."""
    if buffer.nbytes < _HUGE:
        return bytes(buffer)
    memory = BytesMemory(buffer.nbytes)
    memory.view[:] = buffer
    return memory.filled()


def _no_memory(size: int) -> ProtocolError:
    return ProtocolError(f"no memory for {size} bytes of a message")


def _find_unwritten() -> Callable[[int], bytes]:
    """Return a function that makes uninitialised `bytes`, whose pages are not touched."""
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
    """Request huge pages; a kernel without them returns an error, and the memory is only slower."""
    if _madvise is not None:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (address + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        _madvise(start, end - start, mmap.MADV_HUGEPAGE)
