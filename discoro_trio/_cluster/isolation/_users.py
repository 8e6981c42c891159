"""As whom servers run: other users of the machine than the node's own, one for all servers or one for each lease.

This module owns the users that a node may give, which lease has which, and how a server becomes one. That a server does
so before any code of users runs there is with `_server`; folders are given to users by `_lease`.
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
        """Make this process, with all its threads, one of this user; there is no way back.

        Raises:
            OSError: The kernel refuses it.
        """
        parent = os.getppid()
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        # The kernel forgets both when a process changes its user.
        die_with_parent(signal.SIGKILL)
        be_inspectable()
        if os.getppid() != parent:  # it has died in between
            os._exit(1)

    def own(self, folder: Path) -> None:
        """Give this user a folder with all that is in it, which nobody else may have written to before."""
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
    """Run as this user from now on, node to server; answered by `Done`. It comes before the key of the lease."""

    user: User


async def become(_link: Link, message: Become) -> Done:
    """Obey."""
    message.user.become()
    return Done()


class Users:
    """The users that a node has for its servers.

    Attributes:
        shared: The one as whom all servers run; None if each lease has one of its own, or all run as the node does.
    """

    def __init__(self, shared: User | None = None, each: Sequence[User] = ()) -> None:
        self.shared = shared
        self._each = list(each)
        self._free = list(each)

    @property
    def most_leases(self) -> int | None:
        """How many leases there can be at once; None for as many as there are servers."""
        return len(self._each) or None

    @property
    def all(self) -> list[User]:
        """All of them."""
        return [self.shared] if self.shared is not None else list(self._each)

    def take(self) -> User | None:
        """Return the user of a new lease, the one that was free the longest; None for that of the node."""
        return self._free.pop(0) if self._each else self.shared

    def give_back(self, user: User | None) -> None:
        """Take a user back from a lease that is over."""
        if self._each and user is not None:
            self._free.append(user)

    async def clear(self, user: User | None) -> None:
        """Kill what the last lease that had a user has left running; before the next one has it.

        Raises:
            OSError: The operating system did not let us.
        """
        if user in self._each:
            await user.end_processes()

    async def tidy(self, user: User | None) -> None:
        """Kill what a lease has left running; should that fail, `clear` follows before the user is given again."""
        try:
            await self.clear(user)
        except OSError as error:
            logger.warning("what a computation has left running could not be ended: %s", error)

    async def tidy_all(self) -> None:
        """Kill what any lease has left running; for the end of the node."""
        for user in self._each:
            await self.tidy(user)


def check_users(user: str | None, users: Sequence[str], folder: Path | None) -> Users:
    """Return the users that two options stand for.

    Args:
        user: The name or number of the one as whom all servers run.
        users: Those of whom each lease gets one.
        folder: Where the working folders will be made.

    Raises:
        OptionError: They are unknown, or cannot be used here.
    """
    optional_text(_USER, user)
    users = [text(_USERS, name) for name in several(_USERS, users, "names of users")]
    if user is None and not users:
        return Users()
    if user is not None and users:
        raise OptionError(_USERS, "give either this or user: one user a lease, or one for all")
    option = _USER if user is not None else _USERS
    if os.geteuid() != 0:
        raise OptionError(option, "only root can run servers as other users; start this program as root")
    found = [_find(option, name) for name in ([user] if user is not None else users)]
    if len({one.uid for one in found}) < len(found):
        raise OptionError(option, "a user is named twice; each lease needs one of its own")
    for one in found:
        _check_reach(option, one, folder)
    return Users(found[0]) if user is not None else Users(each=found)


def _find(option: str, name: str) -> User:
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError) as error:
        raise OptionError(option, f"there is no user {name!r} on this machine") from error
    if entry.pw_uid == 0:
        raise OptionError(option, f"{name!r} is root, whom nothing holds back; name another user")
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir)


def _check_reach(option: str, user: User, folder: Path | None) -> None:
    """See whether a user gets to what a server needs: the interpreter, this package and the working folders."""
    for place in _NEEDED:
        closed = next(_closed(user, place), None)
        if closed is not None:
            problem = f"{user.name} may not enter {closed}, where this Python or its packages are"
            raise OptionError(option, f"{problem}; install them where everybody can read")
    closed = next(_closed(user, folder), None) if folder is not None else None
    if closed is not None:
        raise OptionError(_DEST_PATH, f"{user.name}, as whom servers run, may not enter {closed}")


def _closed(user: User, folder: Path) -> Iterator[Path]:
    """Return the folders, from the root to this one, that a user may not enter."""
    path = folder.resolve()
    for step in (*reversed(path.parents), path):
        found = step.stat()
        if found.st_uid == user.uid:
            needed = stat.S_IXUSR
        else:
            needed = stat.S_IXGRP if found.st_gid in user.groups else stat.S_IXOTH
        if not found.st_mode & needed:
            yield step
