"""Finds out whether the kernel killed a server because there was no memory left.

The kernel counts such kills for each control group, which is certain if the group is the node's own, and for the whole
machine. Its log names the process, if this user may read the log. The limits of servers are in `_server_groups`.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ._control_groups import count, groups_here, most_memory, read_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MACHINE = Path("/proc/vmstat")
_LOG = Path("/dev/kmsg")
_RECENT_SECONDS = 2.0
"""The most seconds between a counted kill and the end of a server that it explains."""
_RECORD = 8192
"""The most bytes of one record of the log."""
_MOST_RECORDS = 20_000


class Counter:
    """A counter of the kernel, and when it last grew.

    Args:
        read: Returns the number.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read = read
        self._seen = read()
        self._grown = -math.inf

    def grew(self, now: float) -> bool:
        """Read the number; return whether it has grown within the last two seconds."""
        found = self._read()
        if found > self._seen:
            self._grown = now
        self._seen = found
        return now <= self._grown + _RECENT_SECONDS


class OutOfMemory:
    """The kernel's counts of processes that it killed for memory."""

    def __init__(self) -> None:
        memory = [group for group in groups_here(*read_groups()) if "memory" in group.controllers]
        self._groups = [(group, Counter(partial(count, group.oom_kills, "oom_kill"))) for group in memory]
        self._machine = Counter(partial(count, _MACHINE, "oom_kill"))

    async def run(self) -> None:
        """Read the counts regularly until cancelled, so that an old kill does not explain a new end."""
        while True:
            await trio.sleep(config.MinPulseInterval)
            self._look()

    def _look(self) -> tuple[list[str], bool]:
        now = trio.current_time()
        groups = [most_memory(group) for group, counter in self._groups if counter.grew(now)]
        return groups, self._machine.grew(now)

    def cause(self, pid: int) -> str:
        """Describe the kernel's kill of a server for memory, if there was one.

        Args:
            pid: The id of a server process that has just ended by a SIGKILL that this package did not send.

        Returns:
            A text for display; empty if nothing indicates such a kill.
        """
        groups, machine = self._look()
        if groups:
            return f"the kernel killed it because there was no memory left{groups[0]}"
        if _logged(pid):
            return "the kernel killed it because there was no memory left on this machine"
        return "the kernel probably killed it because there was no memory left on this machine" if machine else ""


def _logged(pid: int) -> bool:
    """Return whether the kernel's log says that it killed this process for memory."""
    return any(f"Killed process {pid} ".encode() in record for record in _records())


def _records() -> Iterator[bytes]:
    with suppress(OSError):  # this user may not read it, or it is the end
        log = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for _ in range(_MOST_RECORDS):
                with suppress(BrokenPipeError):  # records were overwritten meanwhile; the next ones follow
                    yield os.read(log, _RECORD)
        finally:
            os.close(log)
