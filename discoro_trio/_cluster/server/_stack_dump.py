"""The stack of an unresponsive server's main thread: its node sends a signal and reads what the handler writes.

The handler is that of `faulthandler`: it runs whatever the thread does, also in a library that holds the interpreter
lock, and it reads no other thread. It costs the server nothing until the signal comes.
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
"""Seconds that a server has to write its stack; a stopped server never does."""
LONGEST = 1024 * 1024
"""The most bytes that are read of a stack."""
_POLL = 0.01
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_PROGRAM = "<string>"
_ALL_WRITTEN = re.compile(rf'^  (File "{_PROGRAM}", line \d+ in <module>|\.\.\.)\n\Z', re.MULTILINE)
"""The last line: the program of the fork server, or an ellipsis for further frames."""


def prepare_dump(file: Path) -> None:
    """Install the signal handler that writes the stack of this server's main thread to a file."""
    faulthandler.register(_SIGNAL, file.open("ab"), all_threads=False)


async def dumped(server: NodeServer) -> list[str]:
    """Request the stack of a server's main thread; return the frames of user code, outermost first.

    The list is empty if the server does not run, or has replaced the signal handler.
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
                await trio.sleep(_POLL)  # no event reports the end of the writing
                text = await _read_untrusted(file)
        return users_frames(text)


async def _catches_signal(pid: int) -> bool:
    """Return whether a process has a handler for the signal; without one, the signal would end it."""
    try:
        status = await trio.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False  # it has ended
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (_SIGNAL - 1) & 1)


async def _read_untrusted(file: trio.Path) -> str:
    """Read as many bytes as a stack can have; a job could write more, without end."""
    async with await file.open("rb") as opened:
        written: bytes = await opened.read(LONGEST)
    return written.decode(errors="backslashreplace")


def users_frames(text: str) -> list[str]:
    """Parse the output of `faulthandler`: frames of user code, or all frames if there are none; outermost first."""
    found = [match for line in text.splitlines() if (match := _FRAME.fullmatch(line)) is not None]
    users = [match for match in found if is_users(match["file"]) and match["file"] != _PROGRAM]
    return [f"{match['file']}:{match['line']} in {match['name']}" for match in reversed(users or found)]
