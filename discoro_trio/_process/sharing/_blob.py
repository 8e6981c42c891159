"""The memory of one shared value at one process: filled once, then sealed, and mapped by processes of its machine.

It is a memfd, which exists until the last process closes and unmaps it, or a temporary file if the system has no
memfds. Other processes open it by `path`. This module owns the layout of a value in it. Transfers are in `_transfers`.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from ..._errors import DiscoroError
from ..._link.shared_memory._pool import AVAILABLE, seal
from ..._shipping import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

# A value, numbers in network byte order:
#
#     u32  n               the number of out-of-band buffers
#     u64  body length     in bytes
#     u64  x n             the length of each buffer, in bytes
#     body, then the n buffers, each at the next multiple of `_ALIGNMENT`
_HEAD = struct.Struct("!IQ")
_LENGTH = struct.Struct("!Q")
_ALIGNMENT = 64  # the alignment that arrays and frames of all libraries need

_MOST_WRITTEN = 1 << 30  # a system call takes less than 2 GiB


class Blob:
    """The bytes of a value.

    Args:
        size: The number of bytes.
        descriptor: The descriptor of a complete blob, which is closed with it; None to make a new one.

    Attributes:
        filled: The number of bytes that are present, from the start.
        descriptor: The descriptor of the blob in this process.
        path: The path by which other processes of the machine open it.
        failed: The error, if the rest will not arrive.

    Raises:
        DiscoroError: There is not enough memory.
    """

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        self.size = size
        self.filled: int = 0 if descriptor is None else size
        self.failed: Exception | None = None
        self._moved = trio.lowlevel.ParkingLot()
        self._early: dict[int, int] = {}  # parts that arrived out of order: start and end
        try:
            made, path = _make(size) if descriptor is None else (descriptor, _path_of(descriptor))
            self.descriptor: int = made
            self.path: str = path
        except OSError as error:
            raise _no_room(size, error) from error

    @classmethod
    def of(cls, body: bytes, buffers: Sequence[Any]) -> Blob:
        """Make a blob that holds a pickled value."""
        pieces: list[Any] = [_HEAD.pack(len(buffers), len(body))]
        pieces += [_LENGTH.pack(memoryview(buffer).nbytes) for buffer in buffers]
        pieces.append(body)
        size = sum(map(len, pieces))
        places: list[tuple[int, Any]] = []
        for buffer in buffers:
            size += -size % _ALIGNMENT
            places.append((size, buffer))
            size += memoryview(buffer).nbytes
        blob = cls(size)
        blob.write(0, memoryview(b"".join(pieces)))
        for offset, buffer in places:
            blob.write(offset, memoryview(buffer).cast("B"))
        blob.complete()
        return blob

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are present."""
        return self.filled == self.size

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes at an offset.

        Raises:
            DiscoroError: There is not enough memory.
        """
        position = offset
        try:
            while data:
                count = os.pwrite(self.descriptor, data[:_MOST_WRITTEN], position)
                position += count
                data = data[count:]
        except OSError as error:
            raise _no_room(self.size, error) from error
        self._early[offset] = position
        while self.filled in self._early:
            self.filled = self._early.pop(self.filled)
        self._moved.unpark_all()

    def complete(self) -> None:
        """Seal the blob, which is complete: no process can change it afterwards."""
        self.filled = self.size
        if AVAILABLE:
            seal(self.descriptor)
        self._moved.unpark_all()

    def fail(self, error: Exception) -> None:
        """Note that the rest will not arrive."""
        self.failed = error
        self._moved.unpark_all()

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes as soon as they are present.

        Raises:
            DiscoroError: The bytes will not arrive, or lie outside of the value.
        """
        if not 0 < size <= self.size - offset:
            message = f"{size} bytes from {offset} on of a shared value of {self.size} bytes"
            raise DiscoroError(message)
        while self.filled < offset + size:
            self._check()
            await self._moved.park()
        self._check()  # the blob may have been released meanwhile
        return os.pread(self.descriptor, size, offset)

    def copy_to(self, file: int) -> None:
        """Copy all bytes to a file; OSError if that is not possible."""
        offset = 0
        while offset < self.size:
            offset += os.sendfile(file, self.descriptor, offset, self.size - offset)

    async def until_complete(self) -> None:
        """Wait until all bytes are present.

        Raises:
            DiscoroError: The rest will not arrive.
        """
        await trio.lowlevel.checkpoint()
        while not self.is_complete:
            self._check()
            await self._moved.park()

    def _check(self) -> None:
        if self.failed is not None:
            message = f"a shared value did not arrive: {self.failed}"
            raise DiscoroError(message)

    def close(self) -> None:
        """Release the memory; processes that map it keep it."""
        if self.failed is None:
            self.fail(DiscoroError("it was released"))
        os.close(self.descriptor)
        if not AVAILABLE:
            Path(self.path).unlink()


def load(path: str) -> Any:
    """Map a blob and unpickle the value in it, with read-only buffers that are not copied.

    Args:
        path: The path of the blob, or of a link to it.

    Raises:
        OSError: The blob does not exist.
        Exception: Unpickling the value raised it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mapped = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED))
    finally:
        os.close(descriptor)
    count, body_size = _HEAD.unpack_from(mapped)
    position = _HEAD.size
    sizes = [_LENGTH.unpack_from(mapped, position + index * _LENGTH.size)[0] for index in range(count)]
    position += count * _LENGTH.size
    body = mapped[position : position + body_size]
    position += body_size
    buffers = []
    for size in sizes:
        position += -position % _ALIGNMENT
        buffers.append(mapped[position : position + size])
        position += size
    return loads(body, buffers, read_only=True)


def _make(size: int) -> tuple[int, str]:
    if AVAILABLE:
        descriptor = os.memfd_create("discoro shared value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        path = _path_of(descriptor)
    else:
        descriptor, path = tempfile.mkstemp(prefix="discoro-shared-")
    try:
        os.ftruncate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, path


def _path_of(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _no_room(size: int, error: OSError) -> DiscoroError:
    return DiscoroError(f"no memory for a shared value of {size} bytes: {error.strerror}")
