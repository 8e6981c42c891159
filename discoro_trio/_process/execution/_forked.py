"""Processes that a job forks from its server: they use none of the server's connections, and end with the job's call.

A fork copies the server's sockets and its event loop. The copy must not read the server's data, and must not run the
server's other coroutines. So every descriptor that the server itself uses is replaced in the copy, and the copy ends
when the function that forked it returns, raises or awaits. Files that the job opened stay open, as after any fork.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, NoReturn, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._link import Endpoint

_T = TypeVar("_T")

_STANDARD_FDS = 3


class _ForkState:
    """Whether this process is a copy of a server."""

    forked = False


state = _ForkState()


def guard_forks(endpoint: Endpoint) -> None:
    """Keep every process that is forked from this one from using the server's connections.

    Call it in a server before any job runs there: it takes all open descriptors as the server's.
    """
    own = _open_descriptors()
    os.register_at_fork(after_in_child=lambda: _leave_server(own, endpoint))


def _open_descriptors() -> dict[int, tuple[int, int]]:
    """Return the non-standard descriptors of this process, each with the device and inode that it refers to."""
    try:
        names = os.listdir("/dev/fd")  # noqa: PTH208 - names, not paths
    except OSError:
        return {}
    found = ((fd, _subject(fd)) for fd in map(int, names) if fd >= _STANDARD_FDS)
    return {fd: subject for fd, subject in found if subject is not None}


def _subject(fd: int) -> tuple[int, int] | None:
    """Return the device and inode that a descriptor refers to; None if it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _leave_server(own: dict[int, tuple[int, int]], endpoint: Endpoint) -> None:
    state.forked = True
    with suppress(ValueError):  # a thread other than the main one has forked
        signal.set_wakeup_fd(-1)
    # A number that the server has closed may be a file of the job by now.
    same = {fd for fd, subject in own.items() if _subject(fd) == subject}
    _replace(same | {link.fileno() for link in endpoint.links.values()} - {-1})
    if trio.lowlevel.in_trio_task():
        trio.lowlevel.add_instrument(_EndAtAwait())


def _replace(fds: set[int]) -> None:
    """Let descriptors lead nowhere; closed, their numbers would become those of files that the job opens."""
    if not fds:
        return
    try:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # the job has used all descriptors; the next file takes the number that is closed
        os.close(min(fds))
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds - {nothing}:
        os.dup2(nothing, fd, inheritable=False)
    if nothing not in fds:
        os.close(nothing)


class _EndAtAwait(trio.abc.Instrument):
    """Ends a copy whose coroutine awaits, as the event loop is the server's."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """End the process."""
        print(f"a process that {task.name} forked has awaited something; it ends", file=sys.stderr)  # noqa: T201
        _exit(1)


def end_copy(error: BaseException | None) -> NoReturn:
    """End this copy of a server, like a program whose main function has returned or raised.

    Args:
        error: The error of the job's function; None if it returned.
    """
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if status and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    _exit(status)


def _exit(status: int) -> NoReturn:
    try:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the job may have closed or replaced it
                stream.flush()
    finally:
        os._exit(status & 0xFF)


def call_in_thread(function: Callable[[], _T]) -> _T:
    """Call a job's plain function in a worker thread; does not return in a copy that the function forked."""
    try:
        result = function()
    except BaseException as error:
        if state.forked:
            end_copy(error)
        raise
    if state.forked:
        end_copy(None)
    if isinstance(result, CoroutineType):
        result.close()
        name = getattr(getattr(function, "func", function), "__qualname__", repr(function))
        message = (
            f"{name} is a plain function and returned a coroutine, which nothing awaits; make it an async function "
            f"that awaits it, or run the async function itself"
        )
        raise TypeError(message)
    return result
