"""Removes working folders left by a node that was killed together with its fork server.

Only a lock shows for certain that a node is dead: process ids are reused, and have no meaning in another container that
shares the folder. `_startup` takes the lock, and removes the folder in the normal case.
"""

from __future__ import annotations

import fcntl
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._startup import FOLDER_PREFIX, LOCK_FILE, open_folder, remove_held, this_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

# Do not wait for special files that other users may have put there under that name.
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def sweep(parent: Path) -> None:
    """Remove what dead nodes of this user and this kernel left in a folder, which may be shared by all users."""
    for folder in parent.glob(f"{FOLDER_PREFIX}*-*"):
        try:
            if _remove_left(folder):
                logger.info("removed %s, which a killed node left", folder)
        except OSError as error:
            # Its node runs, or another process is removing it, or it belongs to another user.
            logger.debug("%s is not removed: %s", folder, error)


def node_lives(folder: Path) -> bool:
    """Return whether the node that works in a folder is known to run."""
    try:
        with _locked(folder / LOCK_FILE):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def _locked(path: Path | str, place: int | None = None) -> Iterator[int]:
    """Hold the lock of a lock file; return its descriptor.

    Raises:
        BlockingIOError: The node of the folder runs.
        OSError: There is no file that can be locked.
    """
    lock = os.open(path, _LOCK, dir_fd=place)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock
    finally:
        os.close(lock)


def _remove_left(folder: Path) -> bool:
    """Remove a folder if it was left by a dead node of this user and this kernel.

    All checks use descriptors, because a name may refer to something else a moment later.
    """
    with open_folder(folder) as place:
        if os.fstat(place).st_uid != os.geteuid():
            return False
        with _locked(LOCK_FILE, place) as lock:
            kernel = this_kernel()
            # It is written under the lock: a node that is still making its folder has not written it yet.
            if os.read(lock, len(kernel) + 1) != kernel:
                return False
            remove_held(folder, place)
            return True
