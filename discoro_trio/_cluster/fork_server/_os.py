"""Operating system calls of the fork server and its servers: names, groups, parent death, descriptors.

This module owns the calls and their differences between systems; `_fork_server` and `_child` make them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if sys.platform == "linux":
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)

if TYPE_CHECKING:
    from collections.abc import Collection

STANDARD_FDS = 3
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
# The fields of /proc/self/stat with the address range of the arguments, counted from the field after the name.
ARG_START, ARG_END = 45, 46


def die_with_parent(signum: int) -> None:
    """Have the kernel signal this process when the thread that forked it ends; does nothing on macOS."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def become_subreaper() -> None:
    """Make this process the new parent of its orphaned descendants; does nothing on macOS."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def be_inspectable() -> None:
    """Let processes of the same user read this process's `/proc` folder, as is usual; does nothing on macOS."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def set_process_name(name: str, about: str = "") -> None:
    """Set the name that `ps` and `top` show; does nothing on macOS.

    Args:
        name: The process's name; where only names are shown, the first 15 bytes are visible.
        about: Follows the name where arguments are shown; cut to the length of the program's arguments.
    """
    if sys.platform == "linux":
        _libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        start, end = _argument_area()
        text = f"{name} {about}".strip().encode()
        # Python has copied its arguments, so only the kernel still reads them here.
        ctypes.memmove(start, text[: max(end - start - 1, 0)].ljust(end - start, b"\0"), end - start)


def _argument_area() -> tuple[int, int]:
    """Return the address range of this process's arguments; an empty range if the kernel does not report it."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[ARG_START]), int(fields[ARG_END])
    except (OSError, IndexError):
        return 0, 0


def close_other_fds(keep: Collection[int]) -> None:
    """Close every descriptor but the standard ones and those to keep."""
    try:
        fds = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 (names, not paths)
    except OSError:
        fds = list(range(os.sysconf("SC_OPEN_MAX")))
    for fd in fds:
        if fd >= STANDARD_FDS and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def kill_group(pid: int) -> None:
    """Kill the process group that a child leads, or the child while it has not made its group.

    The child must not be reaped yet: afterwards its id could belong to another process.
    """
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:  # macOS raises this for a group in which all processes are dead.
        pass


def kill_left_group(pid: int) -> None:
    """Kill the rest of the process group of a process that may already be reaped."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def reap_one(servers: Collection[int]) -> tuple[int, int] | None:
    """Reap one child that has ended; if it was a server, kill the rest of its process group.

    Args:
        servers: The process ids of the servers; any other child is a process that a server left behind.

    Returns:
        The child's pid and exit status (minus the signal's number if a signal ended it), or None if no child has ended.
    """
    try:
        if sys.platform == "linux":
            # Only checked, not reaped: its id, and so its group's id, stays valid until the group is killed.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            if found.si_pid in servers:
                kill_group(found.si_pid)
            pid, status = os.waitpid(found.si_pid, 0)
        else:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return None
            kill_left_group(pid)
    except ChildProcessError:
        return None
    return pid, os.waitstatus_to_exitcode(status)
