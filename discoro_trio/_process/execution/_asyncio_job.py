"""Runs asyncio functions as jobs, in an asyncio loop of the server, in a thread beside Trio's.

Each process has one loop, so such jobs can share connections as in an asyncio program.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio

from ..._arguments import callback
from ..._errors import CoroCancelled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

P = ParamSpec("P")
R = TypeVar("R")


def asyncio_job(fn: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Make a job from an async function that is written for asyncio.

    Args:
        fn: The function, which may use asyncio and its libraries, such as aiohttp.

    Returns:
        An async function for `run`, `map` and all other methods that start coroutines. All such jobs of a server run
        in one asyncio loop. Cancelling a job cancels its asyncio task and waits for that.

    Raises:
        TypeError: `fn` is not a function.
    """
    callback("fn", fn)

    @functools.wraps(fn)
    async def job(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await run_in_asyncio(fn, args, kwargs)
        return result

    return job


async def run_in_asyncio(fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an asyncio function in the loop of this process and return its value.

    Raises:
        Exception: What it raised.
        CoroCancelled: It cancelled itself.

    Cancelling it cancels the asyncio task and waits for its end.
    """
    loop = _loop()
    token = trio.lowlevel.current_trio_token()
    ended = trio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> Any:
        return await fn(*args, **kwargs)

    def begin() -> None:
        task = loop.create_task(run())
        tasks.append(task)
        task.add_done_callback(lambda _: token.run_sync_soon(ended.set))

    # With the context variables of the coroutine, which `current_coro` uses.
    loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
    try:
        await ended.wait()
    except trio.Cancelled:
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108 - `begin` may not have run yet
        with trio.CancelScope(shield=True):
            await ended.wait()
        raise
    (task,) = tasks
    if task.cancelled():
        reason = "its asyncio task was cancelled"
        raise CoroCancelled(reason)
    return task.result()


_starting = threading.Lock()
_running: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process; the first call starts it, and it lasts as long as the process."""
    with _starting:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="asyncio jobs", daemon=True).start()
            _running.append(loop)
        return _running[0]
