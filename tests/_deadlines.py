"""Limits of time that a busy machine does not miss.

A promise such as "a killed server is known within a second" holds for a machine that has a processor to spare. So only
the time in which a processor was idle counts.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_BUSY = 30.0
"""Seconds that a machine may be busy while a limit holds; what takes longer hangs."""


def idle_seconds() -> float:
    """Return for how long the processors of this machine have been idle since it started, all together."""
    counters = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=5)
    return int(counters[4]) / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Measures from its creation on."""

    def __init__(self) -> None:
        self._began, self._idle = time.monotonic(), idle_seconds()

    @property
    def seconds(self) -> float:
        """All the time that has passed."""
        return time.monotonic() - self._began

    @property
    def undisturbed(self) -> float:
        """The time that has passed while the machine had a processor to spare."""
        return min(self.seconds, idle_seconds() - self._idle)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer than this on a machine that is not busy."""
    watch = Stopwatch()
    with trio.fail_after(seconds + LONGEST_BUSY):
        yield
    undisturbed = watch.undisturbed
    assert undisturbed <= seconds, f"it took {watch.seconds:.2f} s, {undisturbed:.2f} s of it undisturbed"
