"""Finds the `Process` and the coroutine that the calling task belongs to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from .execution._local_coro import current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._coro import Coro
    from ._process import Process

process_var: ContextVar[Process | None] = ContextVar("discoro process", default=None)

opened: dict[Process, trio.lowlevel.TrioToken] = {}
"""The processes, in the package's sense, whose endpoints are open in this program, and the Trio loop of each."""


def current_process() -> Process:
    """Return the process that the calling task belongs to.

    Raises:
        RuntimeError: No endpoint encloses the task.
    """
    process = process_var.get()
    if process is None:
        locals_ = current.get()
        if locals_:  # started by a frame of another process, in a task that inherits no context
            return locals_[-1].process
        if opened:
            return _only_one_here()
        message = (
            "this needs an endpoint: enclose it in open_coro(), computation.schedule(), open_cluster(), "
            "open_scheduler() or open_endpoint(ip_addr='')"
        )
        raise RuntimeError(message)
    return process


def _only_one_here() -> Process:
    """Return the process of this loop for a task outside of its block, such as a call from a thread."""
    token = trio.lowlevel.current_trio_token() if trio.lowlevel.in_trio_run() else None
    here = [process for process, where in opened.items() if where is token]
    if len(here) == 1:
        return here[0]
    message = (
        "this needs an endpoint, and this program's is open in Trio's loop of another thread: call it there, by "
        "trio.from_thread.run(call, trio_token=token), with the token of trio.lowlevel.current_trio_token() there"
    )
    raise RuntimeError(message)


@asynccontextmanager
async def enclosing_process() -> AsyncIterator[Process]:
    """Return the process that the calling task belongs to; open an endpoint for the block if there is none.

    Like the endpoint that `schedule` opens, it listens at all addresses of this machine, with the secret of its user.
    """
    process = process_var.get()
    if process is not None or current.get():
        yield current_process()
        return
    from ._open import open_place  # noqa: PLC0415 - servers do not need it

    async with open_place() as opened:
        yield opened


def current_coro() -> Coro[Any]:
    """Return the handle of the coroutine that the calling task is.

    Raises:
        RuntimeError: The task is not a coroutine.
    """
    locals_ = current.get()
    if not locals_:
        message = "the calling task is not a discoro coroutine; 'async with discoro.open_coro() as coro:' makes it one"
        raise RuntimeError(message)
    return locals_[-1].handle
