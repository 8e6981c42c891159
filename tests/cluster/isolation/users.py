"""Users who are there for one program alone: in a mount namespace of its own, which leaves nothing behind.

The namespace has a user database of its own, and lets everybody enter the folder of the interpreter, also where that
lies in the closed home folder of whoever runs the tests.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import trio

from tests.test_ports import COMMON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONE = 60_000 + 3 * (os.getpid() % 1000)
TWO, WHEEL = ONE + 1, ONE + 2
"""The numbers of the users `one` and `two` and of a group; not those of another run of tests, as all that a user runs
is killed at the end of a lease."""

_DATABASE = 'mount --bind "$1" /etc/passwd; mount --bind "$2" /etc/group; shift 2'
_OPEN = """
mount --bind "$2" "$3"; mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir "$2"; mount --move "$3" "$2"; shift 3
"""


def as_seen_by(folder: Path, command: list[str]) -> list[str]:
    """Give the command that runs another where these users are.

    Args:
        folder: An empty one, for what it takes.
        command: The other.
    """
    passwd, group, stash = folder / "passwd", folder / "group", folder / "stash"
    stash.mkdir()
    root = pwd.getpwuid(0)
    passwd.write_text(
        f"root:x:0:0::{root.pw_dir}:/bin/sh\none:x:{ONE}:{ONE}::/home/one:/bin/sh\ntwo:x:{TWO}:{TWO}::/:/bin/sh\n"
    )
    group.write_text(f"root:x:0:\none:x:{ONE}:\ntwo:x:{TWO}:\nwheel:x:{WHEEL}:one\n")
    passwd.chmod(0o644)
    group.chmod(0o644)
    script, arguments = _DATABASE, [str(passwd), str(group)]
    opened = _closed_folder()
    if opened is not None:
        script = f"{_OPEN}{script}"
        arguments = [*opened, str(stash), *arguments]
    return ["unshare", "--mount", "sh", "-c", f'set -e; {script}; exec "$@"', "sh", *arguments, *command]


def _closed_folder() -> list[str] | None:
    """Give the folder on the way to the interpreter that others may not enter, and the next one on that way."""
    path = Path(sys.base_prefix).resolve()
    for closed, below in zip(reversed(path.parents), [*reversed(path.parents), path][1:], strict=False):
        if not closed.stat().st_mode & stat.S_IXOTH:
            return [str(closed), str(below)]
    return None


@asynccontextmanager
async def running_node(folder: Path, *options: str) -> AsyncIterator[psutil.Process]:
    """Run `discoronode` with options where the users are, while the block lasts."""
    command = as_seen_by(folder, [sys.executable, "-m", "discoro_trio", "node", *options, *COMMON])
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, command)
        yield psutil.Process(process.pid)
        process.terminate()
