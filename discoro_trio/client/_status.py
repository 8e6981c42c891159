"""What subscribers of a computation are told of its coroutines, and how that comes to a status coroutine.

The queues themselves are with `cluster`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from .._errors import DiscoroError, NotPicklable
from .._values import CoroInfo, DiscoroStatus, MonitorException, Status
from ..process import ended_message

if TYPE_CHECKING:
    from ..cluster import Event, Publisher
    from ..process import Call, Coro, Started
    from ._session import Session


def _created_event(
    session: Session, started: Started, args: tuple[object, ...], kwargs: dict[str, object], start_time: float
) -> Event:
    return DiscoroStatus(Status.CoroCreated, CoroInfo(session.handle(started), args, kwargs, start_time))


def _ended_event(session: Session, started: Started) -> Event:
    assert started.outcome is not None  # noqa: S101 - it has ended
    started.heard = True
    return ended_message(session.handle(started), started.outcome)


def tell_created(session: Session, started: Started, call: Call) -> None:
    """Tell of a coroutine that was started."""
    status = session.status
    if status.full:
        status.skipped += 1
    else:
        status.put((_created_event, session, started, call.args, call.kwargs, time.time()))


def tell_ended(session: Session, started: Started) -> None:
    """Tell how a coroutine has ended; once that is taken, somebody has heard it."""
    status = session.status
    if status.full:
        status.skipped += 1
    else:
        status.put((_ended_event, session, started))


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
