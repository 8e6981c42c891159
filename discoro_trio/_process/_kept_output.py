"""Keeps the last lines of output of this process for later queries: numbered, and bounded.

`_output` sends output to the client; this module keeps a copy of its end.
"""

from __future__ import annotations

from collections import deque
from time import time

import msgspec

MOST_LINES = 2_000
MOST_BYTES = 256 * 1024
"""Bytes of all kept lines together."""
LONGEST = 4 * 1024
"""Bytes of one line; longer lines are truncated."""
_MOST_OPEN = 1_000
"""The number of incomplete lines that are kept."""
_STDOUT = 1


class OutputLine(msgspec.Struct, frozen=True, array_like=True):
    """A line that was printed, or a log record."""

    number: int
    at: float
    """When it was written, in seconds since the epoch."""
    serial: int
    """The number of the coroutine that wrote it; 0 for none."""
    coro: str
    """Its name."""
    level: str
    """`print`, `stderr`, or the name of the log record's level in small letters."""
    text: str


class KeptOutput:
    """The end of the output of this process. Any thread may fill it, one at a time."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, float, int, str, str, bytes]] = deque()
        self._open: dict[tuple[int, int], bytes] = {}
        self._size = 0
        self._number = 0

    def written(self, stream: int, serial: int, name: str, data: bytes) -> None:
        """Add data that was written to standard output (1) or standard error (2)."""
        key = (serial, stream)
        if key in self._open:
            data = self._open.pop(key) + data
        *lines, rest = data.split(b"\n")
        if rest and len(self._open) < _MOST_OPEN:
            self._open[key] = rest[:LONGEST]
        for line in lines:
            self._add(serial, name, "print" if stream == _STDOUT else "stderr", line)

    def logged(self, serial: int, name: str, level: str, text: str) -> None:
        """Add a log record, with its traceback if it has one."""
        self._add(serial, name, level, text.encode(errors="backslashreplace"))

    def _add(self, serial: int, name: str, level: str, line: bytes) -> None:
        self._number += 1
        self._lines.append((self._number, time(), serial, name, level, line[:LONGEST]))
        self._size += min(len(line), LONGEST)
        while len(self._lines) > MOST_LINES or self._size > MOST_BYTES:
            self._size -= len(self._lines.popleft()[-1])

    def after(self, number: int, most: int) -> list[OutputLine]:
        """Return the last lines after line `number`, at most `most` of them."""
        found: list[OutputLine] = []
        for line in reversed(self._lines):
            if line[0] <= number or len(found) == most:
                break
            found.append(OutputLine(*line[:-1], line[-1].removesuffix(b"\r").decode(errors="backslashreplace")))
        return found[::-1]
