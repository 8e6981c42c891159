"""The coroutines of one nursery over servers: running, starting, and failed ones.

This module owns what a nursery means over the network: waiting for all, cancelling all when one fails, keeping their
errors. Users call `ComputationNursery`; the session cancels coroutines and waits for their clean-up.
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
    """The coroutines that one nursery waits for.

    Attributes:
        coming: How many starts are in progress; the block waits for them, too.
        ending: Why all coroutines are being cancelled; None while they are not.
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

    # --- starts

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Keep the block open while a start is in progress."""
        self.coming += 1
        try:
            yield
        finally:
            self.one_came()

    def one_came(self) -> None:
        """Note that a start in progress has succeeded or failed."""
        self.coming -= 1
        self._moved.unpark_all()

    def adopt(self, started: Submission) -> None:
        """Wait for a coroutine from now on, and collect its errors."""
        self._running.add(started)
        started.then(self._ended)
        if self.ending is not None:
            self._session.cancel(started, self.ending)

    # --- ends

    def _ended(self, started: Submission) -> None:
        self._running.discard(started)
        assert started.outcome is not None  # noqa: S101 - called at its end
        ending = started.outcome.ending
        # While all are being cancelled, a coroutine is lost if it was ended by force or its server ended meanwhile.
        if ending is Ending.ERROR or (ending is Ending.LOST and self.ending is None):
            self.fail(started)
        if not self._running:
            self._moved.unpark_all()

    def fail(self, error: Submission | BaseException) -> None:
        """Keep an error, or a failed coroutine, and cancel all others."""
        self._failed.append(error)
        self._scope.cancel()
        # Cancel the siblings now, not when the body comes to its next checkpoint.
        self._cancel_all(_SIBLING_FAILED)

    def _cancel_all(self, reason: str) -> None:
        if self.ending is None:
            self.ending = reason
            for started in list(self._running):
                self._session.cancel(started, reason)

    async def until_all_ended(self) -> None:
        """Wait until no coroutine runs and no start is in progress."""
        if not self._running and not self.coming:
            await trio.lowlevel.cancel_shielded_checkpoint()
        while self._running or self.coming:
            await self._moved.park()

    async def end(self) -> None:
        """Cancel coroutines that still run and wait, shielded, for their clean-up."""
        self._cancel_all(NURSERY_CANCELLED)
        await self._session.until_all_ended(self._running)

    def errors(self) -> list[BaseException]:
        """Return the errors that were kept."""
        opened = [error if isinstance(error, BaseException) else _error_of(error) for error in self._failed]
        return [error for error in opened if error is not None]


def _error_of(started: Submission) -> BaseException | None:
    return started.outcome.error() if started.outcome is not None else None
