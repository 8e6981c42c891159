"""What a part of the program takes of its process's processor time: an account of its functions and its tasks.

A comparison of runs with and without that part cannot show what is a few hundredths: on a shared machine the same
jobs take half as long again from one moment to the next. An account is exact whatever the machine does. It leaves out
what the part does to others, by the processor's caches or by memory.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING, Any, TypeVar
from unittest.mock import patch

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_INTERRUPTED = 1e-4
"""Seconds that no charged call takes by itself: another process had the processor."""


class Account(trio.abc.Instrument):
    """Adds up what is charged to it.

    Args:
        task: A part of the names of the tasks that are charged; the tasks that these start are charged, too.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._tasks: set[trio.lowlevel.Task] = set()
        self._seconds = 0.0
        self._begun = 0.0
        self._opened = 0.0

    def begin(self) -> None:
        """Count from now on."""
        self._seconds, self._opened = 0.0, process_time()

    def cost(self) -> float:
        """Return what was charged, as a part of all other processor time of this process."""
        return self._seconds / (process_time() - self._opened - self._seconds)

    # --- tasks

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Charge a new task if it is one of those, or started by one."""
        nursery = task.parent_nursery
        if self._task in task.name or (nursery is not None and nursery.parent_task in self._tasks):
            self._tasks.add(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forget a task."""
        self._tasks.discard(task)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Note when a task goes on."""
        if task in self._tasks:
            self._begun = thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Charge what it took."""
        if task in self._tasks:
            self._seconds += thread_time() - self._begun

    # --- functions

    @contextmanager
    def charging(self, *functions: tuple[object, str]) -> Iterator[None]:
        """Charge all calls of functions while the block lasts.

        Args:
            functions: Where each is called from, a module or a class, and its name there.
        """
        with ExitStack() as stack:
            for place, name in functions:
                stack.enter_context(patch.object(place, name, self._charged(getattr(place, name))))
            trio.lowlevel.add_instrument(self)
            stack.callback(trio.lowlevel.remove_instrument, self)
            yield

    def _charged(self, function: Callable[..., T]) -> Callable[..., T]:
        def charged(*args: Any) -> T:
            # Calls are too short for the clock of this thread's own time, which is slower than most of them. A call
            # of nothing before each tells what of it is the clock's and the charging's own.
            begun = perf_counter()
            _nothing(*args)
            called = perf_counter()
            result = function(*args)
            took, nothing = perf_counter() - called, called - begun
            if took < _INTERRUPTED and nothing < _INTERRUPTED:
                self._seconds += took - nothing
            return result

        return charged


def _nothing(*_: object) -> None:
    pass
