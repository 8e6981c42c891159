"""Where the thread of a server is that answers nothing: its node signals it, and reads what the handler wrote.

The handler is `faulthandler`'s: it runs whatever the thread does, also in a library that keeps the interpreter to
itself, and it looks at no other thread. Nothing runs in the server for it until somebody asks.
"""

from __future__ import annotations

import faulthandler
import re
import signal
from typing import TYPE_CHECKING

import trio

from ..._process import is_users

if TYPE_CHECKING:
    from pathlib import Path

    from ..node._server_slot import NodeServer

_SIGNAL = signal.SIGQUIT
_PATIENCE = 1.0
"""Seconds that a server has to write its stack; one that was stopped does not."""
LONGEST = 1024 * 1024
"""The most bytes of a stack that are read."""
_POLL = 0.01
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_PROGRAM = "<string>"
_ALL_WRITTEN = re.compile(rf'^  (File "{_PROGRAM}", line \d+ in <module>|\.\.\.)\n\Z', re.MULTILINE)
"""The last line: the program that the fork server was started with, or the word that there are more."""


def prepare_dump(file: Path) -> None:
    """Write the stack of this server's main thread to a file when the node asks for it."""
    faulthandler.register(_SIGNAL, file.open("ab"), all_threads=False)


async def dumped(server: NodeServer) -> list[str]:
    """Ask a server where its thread is; give the frames of users, the outermost first.

    Nothing of it comes from a server that does not run, or has taken the signal for itself.
    """
    if not await _catches_signal(server.process.pid):
        return []
    async with server.dumping:
        file = trio.Path(server.stack_file)
        await file.write_bytes(b"")
        server.process.signal(_SIGNAL)
        text = ""
        with trio.move_on_after(_PATIENCE):
            while not _ALL_WRITTEN.search(text):
                await trio.sleep(_POLL)  # there is no event
                text = await _read_untrusted(file)
        return users_frames(text)


async def _catches_signal(pid: int) -> bool:
    """Tell whether a process has a handler for the signal: without one, it would end by it."""
    try:
        status = await trio.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it has ended
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (_SIGNAL - 1) & 1)


async def _read_untrusted(file: trio.Path) -> str:
    """Read what a stack can be; a job could write more, and without end."""
    async with await file.open("rb") as opened:
        written: bytes = await opened.read(LONGEST)
    return written.decode(errors="backslashreplace")


def users_frames(text: str) -> list[str]:
    """Read what `faulthandler` wrote: the frames of users, or all where there are none of those; outermost first."""
    found = [match for line in text.splitlines() if (match := _FRAME.fullmatch(line)) is not None]
    users = [match for match in found if is_users(match["file"]) and match["file"] != _PROGRAM]
    return [f"{match['file']}:{match['line']} in {match['name']}" for match in reversed(users or found)]
