"""Tasks that run one coroutine after the other.

Making a task and a cancel scope for each coroutine takes longer than everything else that a server does for a short
coroutine. So a task and its scope are reused for the next coroutine, unless the last one has left state in them.

This module owns those tasks, and the coroutines that wait for one. `_runner` runs the coroutines.
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
"""The number of idle tasks that are kept."""

_LONGEST = 0.001
"""Seconds after which a task that has run several coroutines lets the other tasks of its process run."""

_LONG = 0.02
"""Seconds between two starts from which one of the coroutines counts as blocking the process."""

_MOST_CALLED = 64
"""The largest number of tasks that are woken at once."""

IDLE = "idle berth"
"""The name of an idle task."""


class TaskPool:
    """The tasks of one process that run coroutines.

    Jobs are queued, and one task is woken. It runs the queued jobs one after the other. Before each job it wakes other
    tasks, unless some are already waking: they take over if the job waits. While woken tasks find work, the next number
    doubles, so a thousand waiting coroutines soon have a task each.
    """

    __slots__ = ("_called", "_calls", "_idle", "_queue", "_resting", "_run", "_since")

    def __init__(self, run: Callable[..., Awaitable[bool]]) -> None:
        """Create an empty pool.

        Args:
            run: Runs a coroutine, never raises, and returns whether the scope is unchanged: not cancelled. Its
                arguments are the task, the task's cancel scope, and the arguments of `put`.
        """
        self._run = run
        self._queue: deque[tuple[Any, ...]] = deque()
        self._idle: list[trio.lowlevel.Task] = []
        self._called = 0  # the tasks that are waking
        self._calls = 1  # the number of tasks to wake next
        self._since = 0.0  # when a coroutine last began, or the queue became non-empty
        self._resting = False

    def put(self, nursery: trio.Nursery, *job: Any) -> None:
        """Queue a job to run soon, in the order of these calls.

        Args:
            nursery: The nursery of new tasks. If it is cancelled, jobs that have not begun never begin.
            job: The arguments for `run`.
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
                # With an empty context, as the caller may be another coroutine.
                Context().run(partial(nursery.start_soon, self._serve, nursery, name=IDLE))

    async def _serve(self, nursery: trio.Nursery) -> None:
        try:
            with trio.CancelScope() as scope:
                await self._serve_in(scope, nursery)
        except RuntimeError as error:
            # Trio noticed it when the scope was left, and has corrected it.
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
                del job  # the job may be large, and may run for long
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
        """Let the event loop complete a pass before any task begins another coroutine, as one has blocked the process.

        Then frames that have arrived meanwhile are read; they may revoke waiting jobs.
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
