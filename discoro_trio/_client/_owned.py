"""The coroutines that belong to a computation: those started by `run` and its variants.

This module owns which of them still run, and which failed without any code receiving the error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._process import Ending

if TYPE_CHECKING:
    from .._process import Coro, Submission
    from ._session import Session

# Errors of this many coroutines are kept for the end; in a larger flood the first ones show the cause.
MOST_UNHEARD = 1000


class Owned:
    """The coroutines that a computation's block waits for."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: set[Submission] = set()
        self._failed: list[Submission] = []
        self._closing = False

    def running(self) -> set[Submission]:
        """Return the coroutines that have not ended."""
        return self._running

    def add(self, started: Submission) -> Coro[Any]:
        """Add a coroutine; return a handle to it."""
        self._running.add(started)
        handle = self._session.handle(started)
        started.then(self._ended)
        return handle

    def _ended(self, started: Submission) -> None:
        self._running.discard(started)
        follows = self._closing and started.outcome is not None and started.outcome.ending is Ending.LOST
        if started.failed and not started.heard and not follows and len(self._failed) < MOST_UNHEARD:
            self._failed.append(started)

    def close(self) -> None:
        """Do not keep losses from now on, as the computation is being closed."""
        self._closing = True

    def unheard(self) -> list[BaseException]:
        """Return the errors that no code has received."""
        failed = [started for started in self._failed if not started.heard]
        errors = [started.outcome.error() for started in failed if started.outcome is not None]
        return [error for error in errors if error is not None]
