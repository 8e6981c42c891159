"""Decides when plain functions begin in worker threads: one at a time while they compute, many while they wait.

Plain functions that compute share one interpreter lock. Running two of them at once finishes neither earlier, and keeps
the second one from an idle server. Plain functions that wait for a disk or a network can run in parallel. So the first
one begins at once. Others begin when one ends, or when the process has used little of its processor for a moment; then
the number doubles each time.

A plain function that waits in `trio.from_thread.run`, such as for a job that it has started itself, does not count
against the limit. Otherwise functions that wait for other plain functions could fill the limit and wait for ever.

The processor use includes the time that threads wait for a processor, which the kernel reports on Linux when they get
it; a thread that waits for one at the end of a slice computes, too. Otherwise computing would look like waiting on a
busy machine.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE, _LONG_SLICE = 0.005, 0.1
"""Seconds over which processor use is measured; the longest if no function waits here, and those that run compute."""

_LITTLE = 0.5
"""The fraction of one processor up to which more functions may begin."""

_ALL = 0.9
"""The fraction of one processor from which fewer functions may run at once."""

MOST_BLOCKED = 2_000
"""The number of functions that may wait in `trio.from_thread.run` beyond the limit; each has its own thread."""

_THREADS = Path("/proc/self/task")
_NANOSECONDS = 1e-9


class ThreadGate:
    """Decides when the plain functions of one process begin.

    Args:
        demand: Returns the seconds of processor time that each thread has needed since it started; for tests.
        runnable: Returns whether another thread runs or waits for a processor at the moment; for tests.

    Attributes:
        most: The maximum number of functions that may run at once, besides those that wait in `trio.from_thread.run`.
        allowed: The number of functions that may run at once now; more than one only if they wait for something.
        limiter: Limits their threads; it is raised for functions that wait.
    """

    def __init__(
        self, demand: Callable[[], dict[str, float]] | None = None, runnable: Callable[[], bool] | None = None
    ) -> None:
        self.most: int = 40
        self.allowed: int = 1
        self.limiter: trio.CapacityLimiter | None = None
        self._tasks: set[trio.lowlevel.Task] = set()
        self._demand = demand or _demand
        self._runnable = runnable or _runnable
        self._running = 0
        self._blocked = 0
        self._waiting: deque[trio.lowlevel.Task] = deque()
        self._opened = trio.lowlevel.ParkingLot()
        self._measuring = False

    @property
    def _has_room(self) -> bool:
        return self._running - self._blocked < self.allowed

    @property
    def _open(self) -> bool:
        return self._has_room and not self._waiting

    def enter_now(self, task: trio.lowlevel.Task, nursery: trio.Nursery, *, force: bool = False) -> bool:
        """Let the function of a task begin if the limit allows it or `force` is set; return whether it begins."""
        if force or self._open:
            self._begin(task)
            if self._running > self.most:
                self._start_measuring(nursery)
            return True
        return False

    async def enter(self, nursery: trio.Nursery) -> float:
        """Wait until the calling task may begin its function, in the order of these calls.

        Returns:
            The seconds that this took, divided by the task's initial position in the queue.
        """
        task = trio.lowlevel.current_task()
        self._waiting.append(task)
        ahead, began = len(self._waiting), perf_counter()
        self._start_measuring(nursery)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            self._waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return (perf_counter() - began) / ahead

    async def until_open(self, nursery: trio.Nursery) -> None:
        """Wait until another function would begin, at once or within a slice."""
        if not self._open:
            self._start_measuring(nursery)
            await self._opened.park()

    def _start_measuring(self, nursery: trio.Nursery) -> None:
        if not self._measuring:
            self._measuring = True
            nursery.start_soon(self._measure, name="measure the use of the processor")

    def _begin(self, task: trio.lowlevel.Task) -> None:
        self._running += 1
        self._tasks.add(task)

    def leave(self, task: trio.lowlevel.Task) -> None:
        """Note that the function of a task has ended."""
        self._running -= 1
        self._tasks.discard(task)
        self._admit()
        if not self._running:
            self.allowed = 1

    def _admit(self) -> None:
        while self._waiting and self._has_room:
            task = self._waiting.popleft()
            self._begin(task)
            trio.lowlevel.reschedule(task)
        if self._opened and self._open:
            self._opened.unpark_all()

    async def _measure(self) -> None:
        try:
            pause = SLICE
            demand, now = self._demand(), perf_counter()
            while self._waiting or self._opened or self._running > self.most:
                before, began = demand, now
                await trio.sleep(pause)
                demand, now = self._demand(), perf_counter()
                wanted = sum(used - before.get(thread, 0.0) for thread, used in demand.items())
                processors = wanted / (now - began)
                if processors <= _LITTLE and self._runnable():
                    processors = 1.0
                self.used(processors)
                pause = SLICE if self._waiting or processors < _ALL else min(2 * pause, _LONG_SLICE)
        finally:
            self._measuring = False
            self._blocked = 0
            if self.limiter is not None:
                self.limiter.total_tokens = self.most

    def used(self, processors: float) -> None:
        """Adjust the limit to the processor use, in processors."""
        self._blocked = min(sum(map(waits_in_from_thread, self._tasks)), MOST_BLOCKED)
        if self.limiter is not None:
            self.limiter.total_tokens = self.most + self._blocked
        if processors <= _LITTLE:
            self.allowed = min(2 * self.allowed, self.most)
        elif processors >= _ALL:
            self.allowed = max(1, self.allowed - 1)
        self._admit()


def waits_in_from_thread(task: trio.lowlevel.Task) -> bool:
    """Return whether the function that a task runs in a thread waits in `trio.from_thread.run`.

    Trio runs the function that the thread requests in the same task, within its call of `trio.to_thread.run_sync`.
    """
    below = False
    for frame, _ in task.iter_await_frames():
        if below:
            return frame.f_code.co_name == "run"
        below = frame.f_code is _TO_THREAD
    return False


_TO_THREAD = trio.to_thread.run_sync.__code__


def _runnable() -> bool:
    """Return whether another thread of this process runs or waits for a processor; False where that is unknown."""
    own = str(threading.get_native_id())
    # The state follows the name of the thread, which stands in brackets.
    return any(
        text.rpartition(b") ")[2].startswith(b"R") for thread, text in _of_threads("stat").items() if thread != own
    )


def _demand() -> dict[str, float]:
    """Return the seconds for which each thread has run or waited for a processor."""
    found = {}
    try:
        for thread, text in _of_threads("schedstat").items():
            ran, waited, _ = text.split()
            found[thread] = (int(ran) + int(waited)) * _NANOSECONDS
    except ValueError:  # this kernel has other files
        found.clear()
    return found or {"all": process_time()}


def _of_threads(file: str) -> dict[str, bytes]:
    """Return the kernel's file of this name about each thread; nothing where there are none."""
    found = {}
    with suppress(OSError):
        for thread in os.listdir(_THREADS):  # noqa: PTH208 - only names are needed
            with suppress(OSError):  # the thread has just ended
                found[thread] = (_THREADS / thread / file).read_bytes()
    return found
