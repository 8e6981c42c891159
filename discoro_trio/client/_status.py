"""What subscribers of a computation are told of its coroutines, and how that comes to a status coroutine.

The queues themselves are with `cluster`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._errors import DiscoroError, NotPicklable
from .._values import CoroInfo, DiscoroStatus, MonitorException, Status
from ..process import ended_message

if TYPE_CHECKING:
    from ..cluster import Event, Publisher
    from ..process import Call, Coro, Started
    from ._session import Session


@attrs.frozen
class Created:
    """A coroutine was started; told as CoroCreated."""

    session: Session
    started: Started
    args: tuple[object, ...]
    kwargs: dict[str, object]
    start_time: float

    def event(self) -> Event:
        """Make the status message."""
        info = CoroInfo(self.session.handle(self.started), self.args, self.kwargs, self.start_time)
        return DiscoroStatus(Status.CoroCreated, info)


@attrs.frozen
class Ended:
    """A coroutine has ended; told as MonitorException."""

    session: Session
    started: Started

    def event(self) -> Event:
        """Make the message; from now on somebody has heard how it ended."""
        assert self.started.outcome is not None  # noqa: S101 - it has ended
        self.started.heard = True
        return ended_message(self.session.handle(self.started), self.started.outcome)


def tell_created(session: Session, started: Started, call: Call) -> None:
    """Tell of a coroutine that was started."""
    session.status.put(Created(session, started, call.args, call.kwargs, time.time()))


class Relay:
    """Brings all events to a status coroutine, in order; nobody waits for it when that one's mailbox is full."""

    def __init__(self, publisher: Publisher, coro: Coro[Any], nursery: trio.Nursery) -> None:
        self._publisher = publisher
        self._subscription = publisher.add()
        self._coro = coro
        self._pending: Event | None = None
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        nursery.start_soon(self._run, name=f"status for {coro.name}")

    async def _run(self) -> None:
        """Bring events until told to finish, or until the coroutine has ended."""
        try:
            with self._scope:
                while True:
                    self._pending = self._pending or await self._subscription.receive()
                    await self._send(self._pending)
                    self._pending = None
        except (DiscoroError, trio.EndOfChannel):
            self._publisher.remove(self._subscription)
        finally:
            self._stopped.set()

    async def _send(self, event: Event) -> None:
        try:
            await self._coro.send(event)
        except NotPicklable as error:
            if isinstance(event, MonitorException):
                await self._coro.send(MonitorException(event.coro, None, error))

    async def finish(self) -> None:
        """Bring what is left, as far as the mailbox has room for it."""
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._stopped.wait()
        try:
            while (event := self._pending or self._subscription.take()) is not None:
                self._pending = None
                self._coro.send_nowait(event)
        except (trio.WouldBlock, DiscoroError):
            pass
        finally:
            self._publisher.remove(self._subscription)
