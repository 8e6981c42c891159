"""The coroutines of one nursery over servers: those that run, those on their way, and what failed.

This module owns what a nursery means over the network: waiting for all, cancelling all when one fails, keeping their
errors. What users call is in `ComputationNursery`; cancelling and waiting for clean-up are with the session.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from .._process import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._process import Submission
    from ._session import Session

_SIBLING_FAILED = "another coroutine of its nursery failed"

NURSERY_CANCELLED = "its nursery was cancelled"
"""The reason that `CoroCancelled` gives when the block was cancelled."""


class Children:
    """What one nursery waits for.

    Attributes:
        coming: Starts on their way, for which the block waits too.
        ending: Why all are being cancelled; None while they are not.
    """

    def __init__(self, session: Session, scope: trio.CancelScope) -> None:
        self.coming: int = 0
        self.ending: str | None = None
        self._session = session
        self._scope = scope
        self._running: set[Submission] = set()
        self._failed: list[Submission | BaseException] = []
        self._moved = trio.lowlevel.ParkingLot()

    def running(self) -> set[Submission]:
        """Return the coroutines that have not ended."""
        return self._running

    # --- those that come

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Keep the block from being left while something is on its way into it."""
        self.coming += 1
        try:
            yield
        finally:
            self.one_came()

    def one_came(self) -> None:
        """Note that one of those on their way is there, or will not come."""
        self.coming -= 1
        self._moved.unpark_all()

    def adopt(self, started: Submission) -> None:
        """Wait for a coroutine from now on, and hear of its errors."""
        self._running.add(started)
        started.then(self._ended)
        if self.ending is not None:
            self._session.cancel(started, self.ending)

    # --- those that end

    def _ended(self, started: Submission) -> None:
        self._running.discard(started)
        assert started.outcome is not None  # noqa: S101 - called at its end
        ending = started.outcome.ending
        # Once all are being cancelled, a lost one is one that was ended by force or whose server went meanwhile.
        if ending is Ending.ERROR or (ending is Ending.LOST and self.ending is None):
            self.fail(started)
        if not self._running:
            self._moved.unpark_all()

    def fail(self, error: Submission | BaseException) -> None:
        """Keep an error, or a coroutine that has one, and cancel all others."""
        self._failed.append(error)
        self._scope.cancel()
        # The siblings hear of it now, not when the body comes to its next checkpoint.
        self._cancel_all(_SIBLING_FAILED)

    def _cancel_all(self, reason: str) -> None:
        if self.ending is None:
            self.ending = reason
            for started in list(self._running):
                self._session.cancel(started, reason)

    async def until_all_ended(self) -> None:
        """Wait until nothing runs and nothing is on its way."""
        if not self._running and not self.coming:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while self._running or self.coming:
            await self._moved.park()

    async def end(self) -> None:
        """Cancel what still runs and wait, shielded, for its clean-up."""
        self._cancel_all(NURSERY_CANCELLED)
        await self._session.until_all_ended(self._running)

    def errors(self) -> list[BaseException]:
        """Return the errors that were kept."""
        opened = [error if isinstance(error, BaseException) else _error_of(error) for error in self._failed]
        return [error for error in opened if error is not None]


def _error_of(started: Submission) -> BaseException | None:
    return started.outcome.error() if started.outcome is not None else None
