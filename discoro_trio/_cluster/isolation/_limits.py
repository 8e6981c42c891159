"""What one server may take of its machine, as its node says; the kernel holds it to that.

This module owns the limits and their setting, in the server and before any code of users. What is beyond one process,
such as the memory of all that a job starts, is for control groups: the server enters those that `_server_groups` makes.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..._arguments import optional_integer
from ..._link import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection

PROCESSES = "cgroup.procs"
"""The file of a control group that has its processes."""


class Limits(msgspec.Struct, frozen=True):
    """The most that a server may take; None for as much as its node may."""

    max_memory: int | None = None
    """Bytes of memory, with that of all that it starts in a control group; who asks for more gets a MemoryError."""
    max_files: int | None = None
    """Open files and connections."""
    max_processes: int | None = None
    """Processes and threads. Without a control group they are those of its user, who should be one that runs nothing
    else; root is not held to it."""

    @property
    def need_groups(self) -> bool:
        """Whether there is one that control groups hold better."""
        return self.max_memory is not None or self.max_processes is not None

    def apply(self) -> None:
        """Hold this process, and all that it starts, to the limits; nobody but root can undo that."""
        for kind, value in (
            (resource.RLIMIT_DATA, self.max_memory),
            (resource.RLIMIT_NOFILE, self.max_files),
            (resource.RLIMIT_NPROC, self.max_processes),
        ):
            if value is not None:
                most = resource.getrlimit(kind)[1]
                limit = value if most == resource.RLIM_INFINITY else min(value, most)
                resource.setrlimit(kind, (limit, limit))


def enter_groups(folders: Collection[str]) -> None:
    """Put this process, before it has others, into the control groups that were made for it.

    Raises:
        OSError: The kernel refuses it.
    """
    for folder in folders:
        (Path(folder) / PROCESSES).write_text("0", encoding="ascii")


_LEAST = {"max_memory": 128 * 1024 * 1024, "max_files": 64, "max_processes": 16}


def check_limits(limits: Limits) -> Limits:
    """Return limits that a server can live with.

    Raises:
        OptionError: One is so low that no server would start.
    """
    for option, least in _LEAST.items():
        value = optional_integer(option, getattr(limits, option))
        if value is not None and value < least:
            raise OptionError(option, f"a server needs {least} at the least, not {value}")
    return limits
