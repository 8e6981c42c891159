"""What Trio knows of the scopes of a task, read without waiting.

Its public words for that are a coroutine (`checkpoint_if_cancelled`) and a walk over all scopes around the task
(`current_effective_deadline`). Each takes as long as all else that is done for a short message or coroutine, so one
attribute of Trio's own is read here, and nowhere else; where there is none, the public word is asked.
"""

from __future__ import annotations

from math import inf

import trio
from trio.lowlevel import Task, current_task

_HAS_STATUS = hasattr(Task, "_cancel_status")


def _cancelled_by_status() -> bool:
    return current_task()._cancel_status.effectively_cancelled  # noqa: SLF001 - see above


def _cancelled_by_deadline() -> bool:
    return trio.current_effective_deadline() == -inf


cancelled = _cancelled_by_status if _HAS_STATUS else _cancelled_by_deadline
"""Return whether the calling task would be cancelled if it waited now."""


def innermost(task: Task) -> object:
    """Return what is another object when the innermost scope of a task is another one; for comparing alone."""
    return task._cancel_status if _HAS_STATUS else None  # noqa: SLF001 - see above
