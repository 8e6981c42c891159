"""Stores the outcome of each coroutine and answers queries about it.

The process that started a coroutine keeps its outcome while it holds a handle. This module owns the requests of other
processes (result, end, cancel, terminate, monitor) and decides which process to ask. `_outcome` defines outcomes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any
from weakref import WeakValueDictionary

import msgspec
import trio

from ..._errors import DiscoroError, NotPicklable, UnknownCoro
from ..._link import ANY, Done, answered
from ..._shipping import dumps_message, too_large
from ..._shipping._errors_in_transit import pack_error
from ..._values import MonitorException
from ..._wire import Control, Kind
from ..naming._addresses import Address
from ._outcome import Arrived, Ending, LocalOutcome, Outcome, arrived

if TYPE_CHECKING:
    from ..._link import Link
    from .._coro import Coro
    from .._process import Process
    from ._submission import Submission


MOST_OBSERVERS = 65_536
"""The most ends of coroutines that one process waits to be notified of by another."""
MOST_RECENT = 1_000
"""The number of coroutines that shared their own handles and whose outcomes are kept without a handle here."""


class AskOutcome(Control, frozen=True):
    """Request the outcome of a coroutine. The reply is sent when it has ended."""

    home: bytes
    serial: int
    starter: bytes
    heard: bool


class Told(Control, frozen=True):
    """An outcome, or only the report that the coroutine has ended."""

    ending: Ending
    body: bytes
    buffers: list[bytearray]


class Terminate(Control, frozen=True):
    """Cancel a coroutine, and end it by force after the grace period."""

    home: bytes
    serial: int
    starter: bytes
    grace_period: Annotated[float, msgspec.Meta(ge=0)] | None


class Monitor(Control, frozen=True):
    """Send the observer a `MonitorException` when the coroutine ends."""

    home: bytes
    serial: int
    starter: bytes
    observer: Address


class OutcomeStore:
    """The outcomes of coroutines that this process started, and access to those that other processes keep."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._started: WeakValueDictionary[tuple[bytes, int], Submission] = WeakValueDictionary()
        self._observers: dict[Link, int] = {}  # how many each peer has made this process keep
        self._recent: deque[Submission] = deque(maxlen=MOST_RECENT)
        services = process.endpoint.services
        services.on_request(AskOutcome, self._asked, trust=ANY)
        services.on_request(Terminate, self._asked_to_terminate, trust=ANY)
        services.on_request(Monitor, self._asked_to_monitor, trust=ANY)

    def keep(self, started: Submission, *, recent: bool = False) -> None:
        """Make a record available to other processes while this process holds it; hold a `recent` one for a while."""
        self._started[started.home, started.serial] = started
        if recent:
            self._recent.append(started)

    def found(self, home: bytes, serial: int) -> Submission | None:
        """Return the record of a coroutine that this process started, if it runs or this process holds a handle."""
        return self._started.get((home, serial)) or self._process.starts.running(home, serial)

    def known(self, coro: Coro[Any]) -> Submission | None:
        """Return this process's own record of a coroutine.

        Raises:
            UnknownCoro: This process started the coroutine, but no longer has its record.
        """
        started = coro.started or self.found(coro.home, coro.serial)
        if started is None and coro.starter == self._process.id:
            message = f"the outcome of {coro} is no longer kept"
            raise UnknownCoro(message)
        return started

    # --- requests of coroutines of this process

    async def outcome(self, coro: Coro[Any], *, heard: bool) -> Outcome:
        """Wait for the outcome of a coroutine."""
        await trio.lowlevel.checkpoint()
        started = coro.started or self.known(coro)
        if started is not None:
            started.heard = started.heard or heard
            await started.until_ended()
            assert started.outcome is not None  # noqa: S101 - it has ended
            return started.outcome
        told = await self._ask(coro, AskOutcome(coro.home, coro.serial, coro.starter, heard))
        told = answered(told, Told)
        return arrived(told.ending, told.body, told.buffers)

    def cancel(self, coro: Coro[Any], reason: str | None) -> None:
        """Request the cancellation of a coroutine; returns at once."""
        process = self._process
        if coro.home == process.id:
            local = process.locals.get(coro.serial)
            if local is not None:
                local.cancel(reason)
            return
        started = coro.started or self.found(coro.home, coro.serial)
        if started is not None and started.host is not None:
            started.host.cancel(started, reason)
        else:
            process.endpoint.nursery.start_soon(self._send_cancel, coro, reason)

    async def _send_cancel(self, coro: Coro[Any], reason: str | None) -> None:
        try:
            link = await self._process.link_to(coro)
        except DiscoroError:
            return  # its process is gone, and with it the coroutine
        if not link.lost:
            link.send(Kind.CANCEL, coro.serial, (reason or "").encode())

    async def terminate(self, coro: Coro[Any], grace_period: float | None) -> None:
        """Cancel a coroutine and wait for its end; after the grace period, end it by force."""
        await trio.lowlevel.checkpoint()
        started = self.known(coro)
        if started is None:
            await self._ask(coro, Terminate(coro.home, coro.serial, coro.starter, grace_period))
            return
        self.cancel(coro, "terminated")
        if started.host is not None and started.host.owner is not None:
            await started.host.owner.force(started, grace_period)
        await started.until_ended()

    async def monitor(self, coro: Coro[Any], observer: Coro[Any]) -> None:
        """Send the observer a `MonitorException` when the coroutine ends."""
        await trio.lowlevel.checkpoint()
        started = self.known(coro)
        if started is None:
            await self._ask(coro, Monitor(coro.home, coro.serial, coro.starter, Address.of(observer)))
            return
        started.heard = True
        nursery = self._process.endpoint.nursery
        started.then(lambda record: nursery.start_soon(self._tell, coro, observer, record))

    async def _tell(self, coro: Coro[Any], observer: Coro[Any], started: Submission) -> None:
        assert started.outcome is not None  # noqa: S101 - called at its end
        message = ended_message(coro, started.outcome)
        try:
            await observer.send(message)
        except NotPicklable as error:
            await observer.send(MonitorException(coro, None, error))
        except DiscoroError:
            return  # the observer has ended

    async def _ask(self, coro: Coro[Any], question: Control) -> Control:
        """Send a request to the starter; without a link to it, the coroutine's own process forwards the request."""
        link = self._process.endpoint.links.get(coro.starter)
        if link is None or link.lost:
            link = await self._process.link_to(coro)
        return await link.request(question, timeout=None)

    # --- requests of other processes

    async def _pass_on(self, question: AskOutcome | Terminate | Monitor) -> Control | None:
        if question.starter == self._process.id:
            return None
        link = self._process.endpoint.links.get(question.starter)
        if question.home != self._process.id or link is None or link.lost:
            message = "the process that started this coroutine is gone"
            raise UnknownCoro(message)
        return await link.request(question, timeout=None)

    def _found(self, question: AskOutcome | Terminate | Monitor) -> Submission:
        started = self.found(question.home, question.serial)
        if started is None:
            message = "the outcome of this coroutine is no longer kept"
            raise UnknownCoro(message)
        return started

    async def _asked(self, link: Link, question: AskOutcome) -> Control:
        self._process.introductions.check(link, question.home, question.serial, end=False)
        told = await self._pass_on(question)
        if told is not None:
            return told
        started = self._found(question)
        started.heard = started.heard or question.heard
        await started.until_ended()
        assert started.outcome is not None  # noqa: S101 - it has ended
        return tell(started.outcome, started.name) if question.heard else Told(Ending.VALUE, b"", [])

    async def _asked_to_terminate(self, link: Link, question: Terminate) -> Control:
        self._process.introductions.check(link, question.home, question.serial, end=True)
        told = await self._pass_on(question)
        if told is None:
            started = self._found(question)
            coro = self._process.handle_to(started, self._process.endpoint.location, b"")
            await self.terminate(coro, question.grace_period)
        return told or Done()

    async def _asked_to_monitor(self, link: Link, question: Monitor) -> Control:
        self._process.introductions.check(link, question.home, question.serial, end=False)
        told = await self._pass_on(question)
        if told is None:
            started = self._found(question)
            if self._observers.get(link, 0) >= MOST_OBSERVERS:
                text = f"one process observes at most {MOST_OBSERVERS} coroutines that another has started"
                raise DiscoroError(text)
            self._observers[link] = self._observers.get(link, 0) + 1
            started.then(lambda _: self._observed(link))
            coro = self._process.handle_to(started, self._process.endpoint.location, b"")
            await self.monitor(coro, question.observer.coro())
        return told or Done()

    def _observed(self, link: Link) -> None:
        self._observers[link] -= 1
        if not self._observers[link]:
            del self._observers[link]


def ended_message(coro: Coro[Any], outcome: Outcome) -> MonitorException:
    """Return the message for the observers of a coroutine that has ended."""
    try:
        value = outcome.value()
    except Exception as error:  # noqa: BLE001 - any error goes into the message
        return MonitorException(coro, None, error.with_traceback(None))
    return MonitorException(coro, value, None)


def tell(outcome: Outcome, name: str) -> Told:
    """Return the reply that carries an outcome to another process."""
    if isinstance(outcome, Arrived):
        return Told(outcome.ending, bytes(outcome.body), [bytearray(buffer) for buffer in outcome.buffers])
    assert isinstance(outcome, LocalOutcome)  # noqa: S101 - there are two kinds
    if outcome.raised is None:
        try:
            body, buffers = dumps_message(f"the outcome of {name}", outcome.result)
        except NotPicklable as error:
            outcome = LocalOutcome.failed(error)
        else:
            return Told(Ending.VALUE, body, [bytearray(buffer) for buffer in buffers])
    assert outcome.raised is not None  # noqa: S101 - it is an error
    body, buffers = pack_error(outcome.raised, where=name)
    problem = too_large(body, buffers)
    if problem is not None:
        body, buffers = pack_error(NotPicklable(f"the outcome of {name} {problem}"), where=name)
    return Told(Ending.ERROR, body, [bytearray(buffer) for buffer in buffers])
