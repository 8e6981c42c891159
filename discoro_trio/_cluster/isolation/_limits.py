"""The resource limits of one server, set by its node and enforced by the kernel.

This module owns the limits and sets them in the server, before any user code runs. Limits for more than one process,
such as the memory of all processes that a job starts, need control groups: the server enters those that
`_server_groups` makes.
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
"""The file of a control group that lists its processes."""


class Limits(msgspec.Struct, frozen=True):
    """The most that a server may use; None for the node's own limit."""

    max_memory: int | None = None
    """Bytes of memory; in a control group, with that of all its processes. Asking for more raises MemoryError."""
    max_files: int | None = None
    """Open files and connections."""
    max_processes: int | None = None
    """Processes and threads. Without a control group, those of its user are counted, so the user should run nothing
    else; root is not limited."""

    @property
    def need_groups(self) -> bool:
        """Whether there is a limit that control groups enforce better."""
        return self.max_memory is not None or self.max_processes is not None

    def apply(self) -> None:
        """Limit this process and all processes that it starts; only root can undo that."""
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
    """Put this process, before it starts others, into the control groups that were made for it.

    Raises:
        OSError: The kernel refuses it.
    """
    for folder in folders:
        (Path(folder) / PROCESSES).write_text("0", encoding="ascii")


_LEAST = {"max_memory": 128 * 1024 * 1024, "max_files": 64, "max_processes": 16}


def check_limits(limits: Limits) -> Limits:
    """Return the limits if a server can start under them.

    Raises:
        OptionError: A limit is so low that no server would start.
    """
    for option, least in _LEAST.items():
        value = optional_integer(option, getattr(limits, option))
        if value is not None and value < least:
            raise OptionError(option, f"a server needs at least {least}, not {value}")
    return limits
