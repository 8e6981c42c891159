"""A local nursery whose children are coroutines: tasks of this process with handles and mailboxes of their own.

Trio defines the meaning of a nursery; this module adds handles for its children, and flattens its exception groups.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ..._arguments import optional_text
from ..._config import config
from ..._scopes import raise_flat
from .._current import current_process
from .._telemetry import Started
from ._callables import describe, reject_coro
from ._outcome import Ending
from ._signatures import RunsOne, Starts, StartsSoon
from ._typed import Typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._process import Process
    from ._callables import Described
    from ._local_coro import LocalCoro
    from ._submission import Submission


class Nursery:
    """The coroutines of one block; leaving it waits for them.

    Attributes:
        cancel_scope: Cancels the body of the block and all its coroutines.
    """

    def __init__(self, process: Process, tasks: trio.Nursery) -> None:
        self.cancel_scope: trio.CancelScope = tasks.cancel_scope
        self._process = process
        self._tasks = tasks

    @Typed[StartsSoon]
    def start_soon(self, fn: Callable[..., Any], /, *args: Any, name: str | None = None) -> None:
        """Start a coroutine; returns at once.

        Args:
            fn: An async function, or a plain one, which runs in a thread.
            args: Its arguments.
            name: A display name; by default the name of the function.

        Raises:
            TypeError: `fn` cannot be run.
            RuntimeError: The block has been left.
        """
        self._begin(fn, args, {}, name)

    @Typed[RunsOne]
    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a coroutine and return its handle.

        Args:
            fn: An async function, or a plain one, which runs in a thread.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Returns:
            The handle.

        Raises:
            TypeError: `fn` cannot be run.
            RuntimeError: The block has been left.

        If cancelled, it has started nothing.
        """
        await trio.lowlevel.checkpoint()
        return self._begin(fn, args, kwargs, None).handle

    @Typed[Starts]
    async def start(self, fn: Callable[..., Any], /, *args: Any, name: str | None = None) -> Any:
        """Start a coroutine and wait until it calls `task_status.started(value)`.

        Args:
            fn: An async function with a keyword parameter `task_status`.
            args: Its arguments.
            name: A display name; by default the name of the function.

        Returns:
            The value.

        Raises:
            Exception: The coroutine raised it before it called `started`.
            RuntimeError: The coroutine ended before it called `started`.

        Cancelling it cancels the coroutine and waits for its clean-up.
        """
        described = describe(fn)
        name = optional_text("name", name)
        return await self._tasks.start(self._start, described, args, name)

    def _begin(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None
    ) -> LocalCoro:
        described = describe(fn)
        name = optional_text("name", name)
        reject_coro(kwargs)
        local, started = self._new(described, name)
        try:
            self._tasks.start_soon(self._live, local, started, described, args, kwargs, name=local.name)
        except RuntimeError:
            self._process.end_local(local)
            raise
        return local

    def _new(self, described: Described, name: str | None) -> tuple[LocalCoro, Submission]:
        local, started = self._process.new_local(name or described.name)
        # The reason unless a cancel request gives another one: the block is being cancelled.
        local.reason = "its nursery was cancelled"
        return local, started

    async def _start(
        self, described: Described, args: tuple[Any, ...], name: str | None, task_status: trio.TaskStatus[Any]
    ) -> None:
        local, started = self._new(described, name)
        await self._live(local, started, described, args, {"task_status": task_status})

    async def _live(
        self, local: LocalCoro, started: Submission, described: Described, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        runner = self._process.runner
        span = Started(local.name) if config.opentelemetry else None
        opened = partial(runner.called, described, local, args, kwargs)
        if span is None:
            outcome = await runner.outcome(local, opened)
        else:
            span.follow(started)
            with span.current():
                outcome = await runner.outcome(local, opened)
        self._process.end_here(local, started, outcome)
        if outcome.ending is Ending.CANCELLED:
            # If the block is being cancelled, the scope that was cancelled must catch the exception.
            await trio.lowlevel.checkpoint_if_cancelled()
        if outcome.ending is Ending.ERROR:
            assert outcome.raised is not None  # noqa: S101 - errors carry one
            raise outcome.raised


@asynccontextmanager
async def open_nursery() -> AsyncIterator[Nursery]:
    """Open a nursery for coroutines of this process; leaving the block waits for them.

    Yields:
        The nursery, with `run`, `start_soon`, `start` and `cancel_scope`.

    Raises:
        ExceptionGroup: The errors of the body and the coroutines, in one flat group, even for a single error. The first
            error cancels the other coroutines.
        RuntimeError: No endpoint encloses the task.

    A coroutine that is cancelled individually ends silently. Cancelling the block cancels all its coroutines.
    """
    process = current_process()
    try:
        async with trio.open_nursery() as tasks:
            yield Nursery(process, tasks)
    except BaseException as error:  # noqa: BLE001 - every error goes into the group
        raise_flat("errors in a nursery", [error])
