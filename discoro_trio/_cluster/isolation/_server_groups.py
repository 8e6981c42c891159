"""The control groups of a node's servers: one for each, made before it runs and removed after its end.

This module makes, empties and removes them. `_limits` has the code with which a server enters its group,
`_control_groups` finds the parent groups and the settings, and `_server_slot` decides when a group is made.

In version 2 a group has either processes or controlled groups below it. So a node with such groups moves into a group
of its own, beside those of the servers; then its servers need no more rights than it has.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._link import OptionError
from ..._records import Record
from ._control_groups import CONTROLLERS, excess, groups_here, read_groups, settings
from ._limits import PROCESSES, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator, Sequence

    from ._control_groups import Group

logger = logging.getLogger(__name__)

_CGROUP = "cgroup"  # the option
_PREFIX = "discoro-"
_BELOW = "cgroup.subtree_control"
_GONE_SECONDS = 3.0
_POLL_SECONDS = 0.005


class ServerGroup(Record, frozen=True):
    """The groups of one server, one in each used hierarchy; none if no hierarchy is used."""

    limits: Limits
    """The limits of the groups and of the server process."""
    folders: tuple[tuple[Group, Path], ...] = ()
    """Each folder with the group that contains it."""

    @property
    def limits_of_process(self) -> Limits:
        """The limits that the server sets for itself: those that the groups do not enforce, and those of each process.

        The memory limit is among them: a process that asks for too much gets an error and need not be killed.
        """
        held = any("pids" in group.controllers for group, _folder in self.folders)
        return msgspec.structs.replace(self.limits, max_processes=None) if held else self.limits

    @property
    def excess(self) -> str:
        """A text that describes which limits the server reached; empty for none."""
        return "; ".join(text for group, folder in self.folders for text in excess(group, folder, self.limits))

    async def remove(self) -> None:
        """Kill the processes left in the groups, wait until they have ended, and remove the groups."""
        with trio.move_on_after(_GONE_SECONDS) as scope:
            for group, folder in self.folders:
                while not _end(group, folder):  # noqa: ASYNC110 - there is no event
                    await trio.sleep(_POLL_SECONDS)
        if scope.cancelled_caught:
            logger.warning("a server's control group cannot be removed: processes in it are still running: %s", folder)


class ServerGroups:
    """Makes the groups for the servers of a node.

    Args:
        limits: The limits of each server.
        groups: The parent groups.
    """

    def __init__(self, limits: Limits | None = None, groups: Sequence[Group] = ()) -> None:
        self._limits = limits or Limits()
        self._groups = groups
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ServerGroup]:
        """Make a server's group for the block; after the block, all processes in it have ended.

        If no group can be made, the server has only its own limits; that is logged.
        """
        made = self._make(f"{_PREFIX}{os.getpid()}-{next(self._numbers)}")
        try:
            yield made
        finally:
            with trio.CancelScope(shield=True):
                await made.remove()

    def _make(self, name: str) -> ServerGroup:
        made = []
        with ExitStack() as undo:
            try:
                for group in self._groups:
                    folder = group.folder / name
                    folder.mkdir()
                    undo.callback(_remove_tree, folder)
                    for file, text, needed in settings(group, self._limits):
                        if needed or (folder / file).exists():
                            _write(folder / file, text)
                    made.append((group, folder))
            except OSError as error:
                logger.warning("a server has no control group: %s; only rlimits limit it", error)
                return ServerGroup(self._limits)
            undo.pop_all()
        return ServerGroup(self._limits, tuple(made))


@contextmanager
def open_groups(groups: Sequence[Group], limits: Limits, *, named: bool) -> Iterator[ServerGroups]:
    """Prepare groups for the groups of servers while the block lasts.

    Args:
        groups: The result of `find_groups`.
        limits: The limits of each server.
        named: Whether an option names them; then it is an error if they cannot be used.

    Raises:
        OptionError: They are named and cannot be used.
    """
    with ExitStack() as stack:
        try:
            for group in groups:
                _remove_left(group)
                if group.version != 1:
                    stack.enter_context(_moved_into(group))
        except OSError as error:
            stack.close()
            problem = f"no groups for servers can be made in {', '.join(str(one.folder) for one in groups)}: {error}"
            if named:
                raise OptionError(_CGROUP, problem) from error
            logger.warning("%s; only rlimits limit the servers", problem)
            groups = ()
        yield ServerGroups(limits, groups)


@contextmanager
def _moved_into(group: Group) -> Iterator[None]:
    """Move this process into a group of its own below a group of version 2, and enable that group's controllers."""
    home = next((one.folder for one in groups_here(*read_groups()) if one.version == group.version), None)
    leaf = group.folder / f"{_PREFIX}{os.getpid()}-node"
    leaf.mkdir()
    try:
        _write(leaf / PROCESSES, "0")
        try:
            _write(group.folder / _BELOW, _switch("+", group.controllers))
            yield
        finally:
            _move_back(group, home)
    finally:
        _remove_tree(leaf)


def _move_back(group: Group, home: Path | None) -> None:
    try:
        if home == group.folder:  # it accepts processes again once nothing below it is controlled
            _write(group.folder / _BELOW, _switch("-", group.controllers))
        if home is not None:
            _write(home / PROCESSES, "0")
    except OSError as error:
        logger.warning("this process stays in the control group that it made in %s: %s", group.folder, error)


def _switch(sign: str, controllers: Collection[str]) -> str:
    return " ".join(f"{sign}{name}" for name in sorted(CONTROLLERS.intersection(controllers)))


def _remove_left(group: Group) -> None:
    """Remove the groups that a killed node has left in a group."""
    for left in group.folder.glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _end(group, left)


def _end(group: Group, folder: Path) -> bool:
    """Kill the processes of a group below another one, and remove the group; return whether it is gone."""
    with suppress(OSError):  # it is gone, or we may not kill all its processes; the removal shows which
        _kill_all(group, folder)
    return _remove_tree(folder)


def _kill_all(group: Group, folder: Path) -> None:
    at_once = folder / "cgroup.kill"
    if at_once.exists():
        _write(at_once, "1")
        return
    if "pids" in group.controllers:
        _write(folder / "pids.max", "0")  # no process can fork between the reading and the signals
    for pid in (folder / PROCESSES).read_text(encoding="ascii").split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _remove_tree(folder: Path) -> bool:
    """Remove a group with its child groups; return whether it is gone."""
    for place, _groups, _files in os.walk(folder, topdown=False):
        with suppress(OSError):  # busy: a process in it is still ending
            os.rmdir(place)  # noqa: PTH106 - as `walk` gives them
    return not folder.exists()


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="ascii")
