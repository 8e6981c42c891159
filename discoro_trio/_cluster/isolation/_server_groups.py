"""The control groups of a node's servers: one for each, made before it runs and gone after it has.

This module owns making, emptying and removing them; how a server enters its own is with `_limits`. Which groups they
are made in, and what is written to them, is with `_control_groups`; when, with `_server_slot`.

In version 2 a group has either processes or controlled groups below it. So a node moves into a group of its own, beside
those of the servers, while it has some; then its servers need no more rights than it has.
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
    """The groups of one server, one in each hierarchy that is used; none if none is."""

    limits: Limits
    """What they, and the server itself, are held to."""
    folders: tuple[tuple[Group, Path], ...] = ()
    """Each with the group that it lies in."""

    @property
    def limits_of_process(self) -> Limits:
        """What is left for the server to hold itself to: what the groups do not hold, and what holds each process.

        Memory stays: a process that asks for too much gets an error, and need not be killed.
        """
        held = any("pids" in group.controllers for group, _folder in self.folders)
        return msgspec.structs.replace(self.limits, max_processes=None) if held else self.limits

    @property
    def excess(self) -> str:
        """Of what the server wanted more than it may; empty for nothing."""
        return "; ".join(text for group, folder in self.folders for text in excess(group, folder, self.limits))

    async def remove(self) -> None:
        """Kill what is left in the groups and remove them; what the kernel takes to end is waited for."""
        with trio.move_on_after(_GONE_SECONDS) as scope:
            for group, folder in self.folders:
                while not _end(group, folder):  # noqa: ASYNC110 - there is no event
                    await trio.sleep(_POLL_SECONDS)
        if scope.cancelled_caught:
            logger.warning("a control group of a server stays behind, as something in it does not end: %s", folder)


class ServerGroups:
    """Makes the groups for the servers of a node.

    Args:
        limits: What each server is held to.
        groups: In which they are made.
    """

    def __init__(self, limits: Limits | None = None, groups: Sequence[Group] = ()) -> None:
        self._limits = limits or Limits()
        self._groups = groups
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ServerGroup]:
        """Have a server's group while the block lasts; after it, all that was in it has ended.

        Without a group that can be made, the server is held by its own limits alone; that is logged.
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
                logger.warning("a server has no control group: %s; it is held by rlimits alone", error)
                return ServerGroup(self._limits)
            undo.pop_all()
        return ServerGroup(self._limits, tuple(made))


@contextmanager
def open_groups(groups: Sequence[Group], limits: Limits, *, named: bool) -> Iterator[ServerGroups]:
    """Get groups ready for those of servers while the block lasts.

    Args:
        groups: What `find_groups` gave.
        limits: What each server is held to.
        named: Whether a person named them; then it is an error if they do not serve.

    Raises:
        OptionError: They were named and do not serve.
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
            logger.warning("%s; they are held by rlimits alone", problem)
            groups = ()
        yield ServerGroups(limits, groups)


@contextmanager
def _moved_into(group: Group) -> Iterator[None]:
    """Have this process in a group of its own below one of version 2, and that one's controllers on for those below."""
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
        if home == group.folder:  # it takes processes again when nothing below it is controlled
            _write(group.folder / _BELOW, _switch("-", group.controllers))
        if home is not None:
            _write(home / PROCESSES, "0")
    except OSError as error:
        logger.warning("this process stays in the control group that it made in %s: %s", group.folder, error)


def _switch(sign: str, controllers: Collection[str]) -> str:
    return " ".join(f"{sign}{name}" for name in sorted(CONTROLLERS.intersection(controllers)))


def _remove_left(group: Group) -> None:
    """Remove what a node that was killed has left in a group."""
    for left in group.folder.glob(f"{_PREFIX}*-*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _end(group, left)


def _end(group: Group, folder: Path) -> bool:
    """Kill what runs in a group below another one, and remove it; return whether it is gone."""
    with suppress(OSError):  # it is gone, or not all in it is ours to kill; the removal tells
        _kill_all(group, folder)
    return _remove_tree(folder)


def _kill_all(group: Group, folder: Path) -> None:
    at_once = folder / "cgroup.kill"
    if at_once.exists():
        _write(at_once, "1")
        return
    if "pids" in group.controllers:
        _write(folder / "pids.max", "0")  # nothing is forked between the reading and the signals
    for pid in (folder / PROCESSES).read_text(encoding="ascii").split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _remove_tree(folder: Path) -> bool:
    """Remove a group with those that were made in it; return whether it is gone."""
    for place, _groups, _files in os.walk(folder, topdown=False):
        with suppress(OSError):  # busy: something in it still ends
            os.rmdir(place)  # noqa: PTH106 - as `walk` gives them
    return not folder.exists()


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="ascii")
