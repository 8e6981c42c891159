"""A reusable wake-up that one task waits for and any code triggers.

Use `trio.Event` wherever the cost of one object for each wait does not matter.
"""

from __future__ import annotations

import trio


class Wakeup:
    """Wakes the task that waits. If no task waits, one ring is kept."""

    __slots__ = ("_rung", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the waiting task, or let the next wait return at once."""
        task = self._task
        if task is None:
            self._rung = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait for a ring. If one is kept, return at once, without a checkpoint."""
        if self._rung:
            self._rung = False
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
