"""The kernel's control groups for the servers of a node, and the settings written to them.

This module reads the kernel's texts and folders: the groups of this process, the groups made for it, the files that set
a limit, and the files that show that a limit was reached. `_server_groups` makes and removes the groups.

A group is used only if it is meant for the node: systemd marks a group that it delegates, or an option names the group.
Version 1 has no such mark, and a folder for each controller.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..._link import OptionError
from ..._records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ._limits import Limits

CONTROLLERS = frozenset({"memory", "pids"})
"""The controllers that limit servers."""

_CGROUP = "cgroup"  # the option
_MARKS = ("user.delegate", "trusted.delegate")
_MEMBERSHIPS, _MOUNTS = Path("/proc/self/cgroup"), Path("/proc/self/mountinfo")
_OOM_KILLS = {1: "memory.oom_control", 2: "memory.events"}
_LIMITS = {1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes"), 2: ("memory.max", "memory.peak")}
_NO_LIMIT = 2**60
"""Version 1 writes the largest number of pages there is, in bytes."""
_FIELD_ROOT, _FIELD_POINT = 3, 4  # fields of a mountinfo line, before its dash


class Hierarchy(Record, frozen=True):
    """A mounted tree of control groups."""

    point: Path
    """Where it is mounted."""
    root: PurePosixPath
    """The group that is visible at the mount point."""
    version: int
    """1 or 2."""
    controllers: frozenset[str]
    """The controllers that are bound to it, in version 1."""

    def folder_of(self, group: str) -> Path | None:
        """Return the folder of a group; None if it is outside of the mounted tree."""
        path = PurePosixPath(group)
        return self.point / path.relative_to(self.root) if path.is_relative_to(self.root) else None


class Group(Record, frozen=True):
    """A control group that exists."""

    folder: Path
    version: int
    """1 or 2."""
    controllers: frozenset[str]
    """The members of `CONTROLLERS` that can limit groups below it."""

    @property
    def oom_kills(self) -> Path:
        """The file that counts the processes in it that the kernel killed for memory."""
        return self.folder / _OOM_KILLS[self.version]


def hierarchies(mounts: str) -> list[Hierarchy]:
    """Return the trees of control groups.

    Args:
        mounts: The text of `/proc/self/mountinfo`.
    """
    found = []
    for line in mounts.splitlines():
        place, _dash, what = line.partition(" - ")
        kind, _source, options = what.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), one) for one in place.split(" ")]
            bound = CONTROLLERS & set(options.split(",")) if kind == "cgroup" else frozenset[str]()
            point, root = Path(fields[_FIELD_POINT]), PurePosixPath(fields[_FIELD_ROOT])
            found.append(Hierarchy(point, root, 1 if kind == "cgroup" else 2, frozenset(bound)))
    return found


def groups_here(memberships: str, mounts: str) -> list[Group]:
    """Return the visible groups that this process is in; in version 1 for `CONTROLLERS` only.

    Args:
        memberships: The text of `/proc/self/cgroup`.
        mounts: The text of `/proc/self/mountinfo`.
    """
    found = []
    for line in memberships.splitlines():
        _number, names, path = line.split(":", 2)
        for one in hierarchies(mounts):
            mine = one.version != 1 if not names else bool(one.controllers & set(names.split(",")))
            folder = one.folder_of(path) if mine else None
            if folder is not None:
                found.append(_group_at(folder, one))
                break
    return found


def _group_at(folder: Path, hierarchy: Hierarchy) -> Group:
    controllers = hierarchy.controllers
    if hierarchy.version != 1:
        try:
            controllers = CONTROLLERS & set((folder / "cgroup.controllers").read_text(encoding="ascii").split())
        except OSError:
            controllers = frozenset()
    return Group(folder, hierarchy.version, controllers)


def usable_groups(named: Sequence[str | os.PathLike[str]], memberships: str, mounts: str) -> list[Group]:
    """Return the groups in which a node may make one for each server.

    Args:
        named: Folders of groups that were made for the node.
        memberships: The text of `/proc/self/cgroup`.
        mounts: The text of `/proc/self/mountinfo`.

    Returns:
        The named groups; without any, the group that systemd has delegated to this process, if there is one.

    Raises:
        OptionError: One that is named cannot be used.
    """
    if named:
        return [_named(Path(folder).absolute(), hierarchies(mounts)) for folder in named]
    return [
        group
        for group in groups_here(memberships, mounts)
        if group.version != 1 and _is_delegated(group.folder) and _lacks(group) is None
    ]


def _named(folder: Path, trees: Iterable[Hierarchy]) -> Group:
    containing = [one for one in trees if folder.is_relative_to(one.point)]
    if not containing or not folder.is_dir():
        raise OptionError(_CGROUP, f"{folder} is not a control group; give the folder of one made for this node")
    group = _group_at(folder, max(containing, key=lambda one: len(one.point.parts)))
    problem = _lacks(group)
    if problem is not None:
        raise OptionError(_CGROUP, f"{folder} cannot be used: {problem}")
    return group


def _lacks(group: Group) -> str | None:
    """Describe what a group lacks; None if groups for servers can be made in it."""
    if not group.controllers:
        return "it has neither the memory nor the pids controller"
    needed = [group.folder, group.folder / "cgroup.procs"]
    if group.version != 1:
        needed.append(group.folder / "cgroup.subtree_control")
    closed = next((path for path in needed if not os.access(path, os.W_OK)), None)
    return None if closed is None else f"this user cannot write {closed}"


def _is_delegated(folder: Path) -> bool:
    return any(_has_mark(folder, mark) for mark in _MARKS)


def _has_mark(folder: Path, mark: str) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return os.getxattr(folder, mark) == b"1"
    except OSError:
        return False


def find_groups(named: Sequence[str | os.PathLike[str]] = ()) -> list[Group]:
    """Return this machine's groups in which a node may make one for each server.

    Raises:
        OptionError: One that is named cannot be used.
    """
    return usable_groups(named, *read_groups())


def read_groups() -> tuple[str, str]:
    """Return the kernel's texts about this process's groups and about mounts; empty if there are none."""
    try:
        return _MEMBERSHIPS.read_text(encoding="utf-8"), _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return "", ""


def settings(group: Group, limits: Limits) -> Iterator[tuple[str, str, bool]]:
    """Return the settings to write to the files of a server's group.

    Returns:
        The file's name, the text, and whether the limit depends on it; a kernel may lack the other files.
    """
    memory = limits.max_memory if "memory" in group.controllers else None
    if memory is not None and group.version == 1:
        yield "memory.limit_in_bytes", str(memory), True
        yield "memory.memsw.limit_in_bytes", str(memory), False
    elif memory is not None:
        yield "memory.max", str(memory), True
        yield "memory.swap.max", "0", False
        yield "memory.oom.group", "1", False  # the whole server ends, not only the process that the kernel picks
    if limits.max_processes is not None and "pids" in group.controllers:
        yield "pids.max", str(limits.max_processes), True


def excess(group: Group, folder: Path, limits: Limits) -> Iterator[str]:
    """Describe which limits the processes in a server's group reached.

    Args:
        group: The group that contains it.
        folder: The server's group.
        limits: The limits of the server.
    """
    if "memory" in group.controllers and count(folder / _OOM_KILLS[group.version], "oom_kill"):
        here = Group(folder, group.version, group.controllers)
        if limits.max_memory is not None:
            peak = _number(folder / _LIMITS[group.version][1])
            text = f"; its peak was {peak} bytes" if peak else ""
            yield f"it used more memory than max_memory={limits.max_memory}{text}"
        else:
            yield f"the kernel killed it because there was no memory left{most_memory(here)}"
    if limits.max_processes is not None and "pids" in group.controllers and count(folder / "pids.events", "max"):
        yield f"it wanted more processes than max_processes={limits.max_processes}"


def most_memory(group: Group) -> str:
    """Describe the memory limit of a group, its own or that of an ancestor; empty if none is found."""
    limit_file, peak_file = _LIMITS[group.version]
    for folder in (group.folder, *group.folder.parents):
        limit = _number(folder / limit_file)
        if 0 < limit < _NO_LIMIT:
            peak = _number(folder / peak_file)
            return f": the control group {folder} may take {limit} bytes" + (f", its peak was {peak}" if peak else "")
    return ""


def _number(file: Path) -> int:
    """Read the only number in a file; 0 if it has none."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def count(file: Path, name: str) -> int:
    """Read a number by name from a file that has one name and number per line; 0 if the name is missing."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(value) for key, _space, value in (line.partition(" ") for line in lines) if key == name)
