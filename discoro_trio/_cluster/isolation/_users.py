"""The users that servers run as, other than the node's own: one for all servers, or one for each lease.

This module owns the users of a node, their assignment to leases, and the code with which a server changes its user.
`_server` runs that code before any user code; `_lease` gives folders to users.
"""

from __future__ import annotations

import logging
import os
import pwd
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._arguments import optional_text, several, text
from ..._link import Done, OptionError
from ..._wire import Control
from ..fork_server._os import be_inspectable, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..._link import Link

logger = logging.getLogger(__name__)

_USER, _USERS, _DEST_PATH = "user", "users", "dest_path"  # the options
_NEEDED = (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[3])


class User(msgspec.Struct, frozen=True):
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All groups that it belongs to, `gid` too."""
    home: str
    """Its home folder."""

    def become(self) -> None:
        """Change the user of this process and all its threads; it cannot be undone.

        Raises:
            OSError: The kernel refuses it.
        """
        parent = os.getppid()
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        # The kernel resets both when a process changes its user.
        die_with_parent(signal.SIGKILL)
        be_inspectable()
        if os.getppid() != parent:  # the parent has died meanwhile
            os._exit(1)

    def own(self, folder: Path) -> None:
        """Give this user a folder with its content, to which no other user may have written before."""
        for where, _folders, files in os.walk(folder):
            for path in (where, *(os.path.join(where, file) for file in files)):  # noqa: PTH118 - as `walk` gives them
                os.chown(path, self.uid, self.gid, follow_symlinks=False)

    async def end_processes(self) -> None:
        """Kill all processes of this user on the machine, at once, so that none can escape by forking."""
        # A signal to -1 reaches all processes that the sender may signal, but not the sender.
        await trio.run_process(
            ["/bin/sh", "-c", "kill -KILL -1"],
            user=self.uid,
            group=self.gid,
            extra_groups=[],
            cwd="/",
            check=False,  # there may be none
            stderr=subprocess.DEVNULL,
        )


class Become(Control, frozen=True):
    """Node to server: run as this user from now on; answered by `Done`. It is sent before the key of the lease."""

    user: User


async def become(_link: Link, message: Become) -> Done:
    """Obey."""
    message.user.become()
    return Done()


class Users:
    """The users that a node has for its servers.

    Attributes:
        shared: The user that all servers run as; None if each lease has its own user, or all run as the node's user.
    """

    def __init__(self, shared: User | None = None, each: Sequence[User] = ()) -> None:
        self.shared = shared
        self._each = list(each)
        self._free = list(each)

    @property
    def most_leases(self) -> int | None:
        """The most leases at a time; None for as many as there are servers."""
        return len(self._each) or None

    @property
    def all(self) -> list[User]:
        """All of them."""
        return [self.shared] if self.shared is not None else list(self._each)

    def take(self) -> User | None:
        """Return the user for a new lease, the one that was free the longest; None for the node's user."""
        return self._free.pop(0) if self._each else self.shared

    def give_back(self, user: User | None) -> None:
        """Take a user back from a lease that is over."""
        if self._each and user is not None:
            self._free.append(user)

    async def clear(self, user: User | None) -> None:
        """Kill the processes that a user's last lease has left running, before the user is assigned again.

        Raises:
            OSError: The operating system refused it.
        """
        if user in self._each:
            await user.end_processes()

    async def tidy(self, user: User | None) -> None:
        """Kill the processes that a lease has left running; if that fails, `clear` tries again before the next one."""
        try:
            await self.clear(user)
        except OSError as error:
            logger.warning("processes that a computation has left running could not be killed: %s", error)

    async def tidy_all(self) -> None:
        """Kill the processes that any lease has left running, at the end of the node."""
        for user in self._each:
            await self.tidy(user)


def check_users(user: str | None, users: Sequence[str], folder: Path | None) -> Users:
    """Return the users that two options stand for.

    Args:
        user: The name or number of the user that all servers run as.
        users: The names or numbers of users, of which each lease gets one.
        folder: The folder for the working folders.

    Raises:
        OptionError: A user is unknown, or cannot be used here.
    """
    optional_text(_USER, user)
    users = [text(_USERS, name) for name in several(_USERS, users, "names of users")]
    if user is None and not users:
        return Users()
    if user is not None and users:
        raise OptionError(_USERS, "give either users, one for each lease, or user, one for all leases; not both")
    option = _USER if user is not None else _USERS
    if os.geteuid() != 0:
        raise OptionError(option, "only root can run servers as other users; start this program as root")
    found = [_find(option, name) for name in ([user] if user is not None else users)]
    if len({one.uid for one in found}) < len(found):
        raise OptionError(option, "a user is named twice; each lease needs a user of its own")
    for one in found:
        _check_reach(option, one, folder)
    return Users(found[0]) if user is not None else Users(each=found)


def _find(option: str, name: str) -> User:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError) as error:
        raise OptionError(option, f"there is no user {name!r} on this machine") from error
    if entry.pw_uid == 0:
        raise OptionError(option, f"{name!r} is root, which no limit restricts; name another user")
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir)


def _check_reach(option: str, user: User, folder: Path | None) -> None:
    """Check that a user can reach what a server needs: the interpreter, this package and the working folders."""
    for place in _NEEDED:
        closed = next(_closed(user, place), None)
        if closed is not None:
            problem = f"{user.name} may not enter {closed}, where this Python or its packages are"
            raise OptionError(option, f"{problem}; install them where all users can read")
    closed = next(_closed(user, folder), None) if folder is not None else None
    if closed is not None:
        raise OptionError(_DEST_PATH, f"{user.name}, the user that servers run as, may not enter {closed}")


def _closed(user: User, folder: Path) -> Iterator[Path]:
    """Return the folders on the path from the root to this one that a user may not enter."""
    path = folder.resolve()
    for step in (*reversed(path.parents), path):
        found = step.stat()
        if found.st_uid == user.uid:
            needed = stat.S_IXUSR
        else:
            needed = stat.S_IXGRP if found.st_gid in user.groups else stat.S_IXOTH
        if not found.st_mode & needed:
            yield step
