"""Tasks that run one coroutine after the other.

To make a task for a coroutine, with a scope of its own by which it can be cancelled alone, takes longer than
everything else that happens to a short coroutine at its server. So the task and its scope serve the next one too,
unless anything of the last one is left in them.

This module owns those tasks, and the coroutines that wait for one. What a coroutine is, is in `_runner`.
"""

from __future__ import annotations

import logging
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

from ._scope_state import innermost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

MOST_IDLE = 256
"""Tasks that are kept while they have nothing to do."""

_LONGEST = 0.001
"""Seconds after which a task that has run several coroutines lets all others of its process go on."""

_LONG = 0.02
"""Seconds between two coroutines that begin, after which one of them has blocked the process."""

_MOST_CALLED = 64
"""Tasks that are called at once."""

IDLE = "idle berth"
"""The name of a task that has nothing to do."""


class TaskPool:
    """The tasks of one process that run coroutines.

    What is to run is queued, and one task is called. It runs what is queued, one after the other, and calls others
    before each, unless there are some on their way: if what it runs then waits, they take over. As long as they find
    work they call twice as many the next time, so that a thousand coroutines that all wait soon have a task each.
    """

    __slots__ = ("_called", "_calls", "_idle", "_queue", "_resting", "_run", "_since")

    def __init__(self, run: Callable[..., Awaitable[bool]]) -> None:
        """Take what runs.

        Args:
            run: Runs a coroutine, never raises, and tells whether the scope is as it was: not cancelled. It gets its
                task, the task's cancel scope, and what `put` got.
        """
        self._run = run
        self._queue: deque[tuple[Any, ...]] = deque()
        self._idle: list[trio.lowlevel.Task] = []
        self._called = 0  # those on their way
        self._calls = 1  # how many are called next
        self._since = 0.0  # when a coroutine last began, or the queue to fill
        self._resting = False

    def put(self, nursery: trio.Nursery, *job: Any) -> None:
        """Have something run soon, in the order of these calls.

        Args:
            nursery: Where new tasks live. If it is cancelled, what has not begun by then never does.
            job: What `run` gets.
        """
        if not self._queue:
            self._since = perf_counter()
        self._queue.append(job)
        if not self._called:
            self._call(nursery, 1)

    def _call(self, nursery: trio.Nursery, count: int) -> None:
        self._called += count
        for _ in range(count):
            if self._idle:
                trio.lowlevel.reschedule(self._idle.pop())
            else:
                # With nothing in its context: not even what is in that of the caller, which may be another coroutine.
                Context().run(partial(nursery.start_soon, self._serve, nursery, name=IDLE))

    async def _serve(self, nursery: trio.Nursery) -> None:
        try:
            with trio.CancelScope() as scope:
                await self._serve_in(scope, nursery)
        except RuntimeError as error:
            # Trio found it when the scope was left, and has put it right.
            logger.warning("a coroutine has left a cancel scope open: %s", error)

    async def _serve_in(self, scope: trio.CancelScope, nursery: trio.Nursery) -> None:
        task = trio.lowlevel.current_task()
        scopes = innermost(task)
        queue, run = self._queue, self._run
        while True:
            self._called -= 1
            if not queue:
                self._calls = 1
            rested = perf_counter()
            while queue and not self._resting:
                now = perf_counter()
                if now - self._since > _LONG:
                    await self._rest()
                    now = perf_counter()
                    if not queue:
                        break
                self._since = now
                job = queue.popleft()
                if queue and not self._called:
                    self._call(nursery, min(self._calls, len(queue)))
                    self._calls = min(2 * self._calls, _MOST_CALLED)
                running = run(task, scope, *job)
                del job  # it may be large, and may run long
                uncancelled = await running
                del running
                if not uncancelled or copy_context() or innermost(task) is not scopes:
                    if queue and not self._called:
                        self._call(nursery, 1)
                    return
                if queue and perf_counter() - rested > _LONGEST:
                    await trio.lowlevel.checkpoint()
                    rested = perf_counter()
            if len(self._idle) >= MOST_IDLE:
                return
            task.name = IDLE
            await self._until_called(task)

    async def _rest(self) -> None:
        """Let the event loop come round before any task begins another coroutine: one has held the process for long.

        What arrived meanwhile is read then, and may take back what waits.
        """
        self._resting = True
        try:
            for _ in range(2):
                await trio.lowlevel.checkpoint()
        finally:
            self._resting = False

    async def _until_called(self, task: trio.lowlevel.Task) -> None:
        self._idle.append(task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
