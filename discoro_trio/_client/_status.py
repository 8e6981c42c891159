"""The events about coroutines for subscribers of a computation, and their delivery to a status coroutine.

The queues themselves are in `_cluster`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .._errors import DiscoroError, NotPicklable
from .._process import Submission, ended_message
from .._status import CoroInfo, DiscoroStatus, Status
from .._values import MonitorException

if TYPE_CHECKING:
    from .._cluster import Event, Publisher
    from .._process import Call, Coro, Outcome  # noqa: TC004 - what is never encoded needs no types at run time
    from ._server import LeasedServer  # noqa: TC004 - what is never encoded needs no types at run time


class Noted(msgspec.Struct, eq=False, gc=False):
    """A coroutine in the events for subscribers, kept until they have read its end.

    A subscriber that does not read keeps ten thousand events. Each new object that the garbage collector tracks makes
    it run more often, which costs the jobs 3 to 5 %. So neither this nor its events are tracked. It is in no cycle:
    records drop it when they get an outcome, and outcomes have no reference to it.
    """

    server: LeasedServer
    """Where it runs."""
    serial: int
    """Its number there."""
    name: str
    """Its name."""
    outcome: Outcome | None = None
    """Its outcome."""
    failed: Submission | None = None
    """Its record if it has failed: the owner must know whether the error was received."""
    told_server: LeasedServer | None = None
    """Where it was when a subscriber read of its start; its end is reported under the same id."""
    told_serial: int = 0
    """Its number there."""

    def event(self) -> Event:
        """Report its end."""
        assert self.outcome is not None  # noqa: S101 - it has ended
        record = self.record()
        record.heard = True
        return ended_message(self.handle(record), self.outcome)

    def handle(self, record: Submission) -> Coro[Any]:
        """Return its handle, with the id that subscribers know, even if it was moved to another server since."""
        if self.told_server is None:
            self.told_server, self.told_serial = self.server, self.serial
        server, serial = self.told_server, self.told_serial
        if server is not self.server or serial != self.serial:
            record = Submission.over(server.server_id, serial, self.name, server.host, self.outcome)
        return server.session.handle(record)

    def record(self) -> Submission:
        """Return its record; make it again if it was not kept."""
        if self.failed is not None:
            return self.failed
        server = self.server
        record = server.host.started.get(self.serial) or server.session.records.found(server.server_id, self.serial)
        return record or Submission.over(server.server_id, self.serial, self.name, server.host, self.outcome)


def tell_created(server: LeasedServer, started: Submission, call: Call) -> None:
    """Report a coroutine that was started."""
    status = server.session.status
    room = status.room
    if room <= 0:
        room = status.make_room()
    status.room = room - 1
    if status.full:
        return
    started.noted = noted = Noted(server, started.serial, started.name)
    made_of = (4 + len(call.args), _created, noted, time(), call.kwargs or None) + call.args  # noqa: RUF005 - half the time
    for queue in status.queues:
        queue.extend(made_of)
    if status.waited_for:
        status.wake()


def tell_ended(server: LeasedServer, started: Submission) -> None:
    """Report a coroutine's end; once a subscriber takes the event, its error counts as received."""
    status = server.session.status
    room = status.room
    if room <= 0:
        room = status.make_room()
    status.room = room - 1
    noted, started.noted = started.noted, None
    if status.full:
        return
    if noted is None:
        noted = Noted(server, started.serial, started.name)
    noted.outcome = started.outcome
    if started.failed:
        noted.failed = started
    for queue in status.queues:
        queue.append(noted)
    if status.waited_for:
        status.wake()


def note_moved(server: LeasedServer, started: Submission) -> None:
    """Note that a coroutine that had not begun was moved to another server."""
    if started.noted is not None:
        started.noted.server, started.noted.serial = server, started.serial


def _created(noted: Noted, start_time: float, kwargs: dict[str, object] | None, *args: object) -> Event:
    coro = noted.handle(noted.record())
    return DiscoroStatus(Status.CoroCreated, CoroInfo(coro, args, kwargs or {}, start_time))


class Relay:
    """Sends all events to a status coroutine, in order; a full mailbox there delays nothing else."""

    def __init__(self, publisher: Publisher, coro: Coro[Any], nursery: trio.Nursery) -> None:
        self._publisher = publisher
        self._subscription = publisher.add()
        self._coro = coro
        self._pending: Event | None = None
        self._scope = trio.CancelScope()
        self._stopped = trio.Event()
        nursery.start_soon(self._run, name=f"status for {coro.name}")

    async def _run(self) -> None:
        """Send events until requested to finish, or until the coroutine has ended."""
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
        """Send the remaining events for which the mailbox has room."""
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
