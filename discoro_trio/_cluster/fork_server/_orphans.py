"""Finds and kills processes that outlive the server that started them; runs in the fork server.

The fork server is a child subreaper, so a process whose parent has ended becomes a child of the fork server, whatever
session or process group it has made. Which server it came from is in its soft limit RLIMIT_RTTIME: each server gets a
value of its own, and everything that it starts inherits the value, through fork, exec and setsid. The limit concerns
only processes with a real-time schedule, and each value allows such a process many years of processor time.
"""

from __future__ import annotations

import os
import resource
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ._os import become_subreaper

if TYPE_CHECKING:
    from collections.abc import Collection

_LEAST_MARK = 2**61
_RANDOM_BITS, _NUMBER_BITS = 24, 32
"""Random, because a job may run a node whose servers carry marks of another fork server."""


class Orphans:
    """The children of this process that are not its servers; made by the fork server."""

    def __init__(self) -> None:
        self._base = _LEAST_MARK + (secrets.randbits(_RANDOM_BITS) << _NUMBER_BITS)
        become_subreaper()

    def mark(self, number: int) -> None:
        """Mark this process, a server that was just forked, and all processes that it will start."""
        if sys.platform == "linux" and _can_mark():
            resource.setrlimit(resource.RLIMIT_RTTIME, (self._base + number, resource.RLIM_INFINITY))

    def kill(self, servers: Collection[int], numbers: Collection[int]) -> set[int]:
        """Kill the orphans of servers that have ended.

        The children of a killed orphan become children of this process only after the kill, so this is called again
        after each SIGCHLD until no orphan is left.

        Args:
            servers: The process ids of the servers.
            numbers: The numbers of the servers, as given to `mark`.

        Returns:
            The numbers of the servers whose orphans have not yet ended; negative ones for processes without a mark.
        """
        left: set[int] = set()
        if numbers and not _can_mark():
            return left  # the server of an orphan is unknown; all orphans are killed with the last server
        for pid in _children():
            number = self._number_of(pid)
            if pid not in servers and number not in numbers:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                left.add(number)
        return left

    def _number_of(self, pid: int) -> int:
        if sys.platform != "linux":
            return -1
        try:
            return resource.prlimit(pid, resource.RLIMIT_RTTIME)[0] - self._base
        except OSError:  # it has gone, or runs as another user
            return -1


def _can_mark() -> bool:
    """Return whether servers can have limits of their own; a container may have set a lower limit."""
    return sys.platform == "linux" and resource.getrlimit(resource.RLIMIT_RTTIME)[1] == resource.RLIM_INFINITY


def _children() -> list[int]:
    """Return the children of this process, which has one thread."""
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:  # no such system, or no /proc
        return []
    return [int(pid) for pid in text.split()]
