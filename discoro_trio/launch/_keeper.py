"""Runs the process of a node in a worker of another system, such as Dask or Ray.

The worker imports this module, so discoro_trio must be installed there. A keeper starts the node's process, keeps the
lines that it writes until they are fetched, and ends it. The process also ends when the worker does, as its standard
input is closed then.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from typing import IO

from ._order import LONGEST_END
from ._output import printable
from ._processes import NODE_MODULE

_KILL_AFTER = LONGEST_END + 3
"""Seconds after which a node that was to end is killed; it needs LONGEST_END itself."""
_LONGEST_LINE = 8192
_KEPT = 10_000
"""The most lines that are kept until they are fetched; older ones are dropped."""
_LAST_LINES = 1.0
"""Seconds for which output is read after the process has ended: another process may hold the pipe open."""


class NodeKeeper:
    """Runs one node; all methods may be called from any thread.

    Args:
        order: What the node needs, as `Order.encode` returns it.
    """

    def __init__(self, order: bytes) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._news = threading.Condition()
        self._over = False
        self._process = subprocess.Popen(  # noqa: S603 - this module's own command
            [sys.executable, *NODE_MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.write(order)
        self._process.stdin.flush()
        threading.Thread(target=self._follow, daemon=True).start()

    def fetch(self, seconds: float) -> tuple[list[tuple[int, str]], int | None]:
        """Wait for lines, or for the end.

        Args:
            seconds: The longest time to wait.

        Returns:
            The new lines, each with the number of its stream: 1 or 2; and the exit status, if the process has ended and
            these are the last lines.
        """
        with self._news:
            self._news.wait_for(lambda: self._lines or self._over, seconds)
            lines = list(self._lines)
            self._lines.clear()
            return lines, self._process.returncode if self._over else None

    def stop(self) -> None:
        """End the node in order, and by force when that takes too long; returns when it has ended."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.close()
        try:
            self._process.wait(_KILL_AFTER)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _follow(self) -> None:
        readers = [
            threading.Thread(target=self._read, args=(number, stream), daemon=True)
            for number, stream in ((1, self._process.stdout), (2, self._process.stderr))
        ]
        for reader in readers:
            reader.start()
        self._process.wait()
        for reader in readers:
            reader.join(_LAST_LINES)
        with self._news:
            self._over = True
            self._news.notify_all()

    def _read(self, number: int, stream: IO[bytes]) -> None:
        while line := stream.readline(_LONGEST_LINE):
            text = printable(line)
            with self._news:
                self._lines.append((number, text))
                self._news.notify_all()
