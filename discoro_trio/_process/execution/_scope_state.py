"""Reads the state of a task's cancel scopes from Trio, without waiting.

Trio's public functions for this are a coroutine (`checkpoint_if_cancelled`) and a walk over all scopes around the task
(`current_effective_deadline`). Each takes as long as all other work for a short message or coroutine. So this module,
and no other, reads private attributes of Trio; if they do not exist, the public function is used. Even the call of
`current_task` would add a twentieth to the time of a short message.
"""

from __future__ import annotations

from math import inf
from typing import Any

import trio
from trio._core import _run
from trio.lowlevel import Task

_context: Any = getattr(_run, "GLOBAL_RUN_CONTEXT", None)
_HAS_STATUS = _context is not None and hasattr(Task, "_cancel_status")


def _cancelled_by_status() -> bool:
    return _context.task._cancel_status.effectively_cancelled  # type: ignore[no-any-return]  # noqa: SLF001 - see above


def _cancelled_by_deadline() -> bool:
    return trio.current_effective_deadline() == -inf


cancelled = _cancelled_by_status if _HAS_STATUS else _cancelled_by_deadline
"""Return whether the calling task would be cancelled if it waited now."""


def innermost(task: Task) -> object:
    """Return an object that identifies the innermost scope of a task; only for comparison."""
    return task._cancel_status if _HAS_STATUS else None  # noqa: SLF001 - see above
