"""A server's output: its pipes, read as the output arrives, and the last lines for the error that reports its end.

This module owns the node's ends of a server's pipes; `_client` decides what each pipe feeds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

TAIL_BYTES = 8192
TAIL_LINES = 40
READ_SIZE = 65536
DRAIN_SIZE = 1024 * 1024
"""The most bytes a pipe can hold (Linux's pipe-max-size), and so the most that is read after the server's end."""


class Tail:
    """The last `TAIL_LINES` lines, limited to `TAIL_BYTES` bytes."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Add output."""
        self._data += data
        del self._data[:-TAIL_BYTES]

    def text(self) -> str:
        """Return the text; bytes that are not UTF-8 become backslash escapes."""
        lines = self._data.decode(errors="backslashreplace").splitlines(keepends=True)
        return "".join(lines[-TAIL_LINES:])


class OutputPipe:
    """A pipe that a server writes to."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        self._flows = trio.Event()
        self._flows.set()

    async def read(self) -> None:
        """Pass on the output until every writer has closed. Cancelling loses nothing."""
        while True:
            await self._flows.wait()
            await trio.lowlevel.wait_readable(self._read_fd)
            if not self._read_some():
                return

    def hold(self) -> None:
        """Stop reading until `release`: the pipe fills, and then its writers block."""
        if self._flows.is_set():
            self._flows = trio.Event()

    def release(self) -> None:
        """Read again."""
        self._flows.set()

    def drain(self) -> None:
        """Pass on the output that is there now, without waiting for more: a grandchild may hold the pipe open."""
        left = DRAIN_SIZE
        try:
            while left > 0 and (size := self._read_some()):
                left -= size
        except BlockingIOError:
            pass

    def close_read(self) -> None:
        """Close the read end."""
        os.close(self._read_fd)

    def close_write(self) -> None:
        """Close this process's copy of the write end."""
        os.close(self.write_fd)

    def _read_some(self) -> int:
        data = os.read(self._read_fd, READ_SIZE)
        if data:
            self._take(data)
        return len(data)
