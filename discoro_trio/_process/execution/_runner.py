"""Runs the coroutines of this process, which frames of other processes or nurseries of this one start.

This module owns their tasks from the start frame to the outcome frame. Messages to them are in `_mail`; the starter's
records of them are in `_submissions`.
"""

from __future__ import annotations

import logging
import struct
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

from ..._errors import CoroCancelled, NotPicklable, ProtocolError
from ..._link import ANY, Trust
from ..._printable import printable
from ..._shipping import dumps, loads, say_not_opened, too_large
from ..._shipping._errors_in_transit import pack_error
from ..._wire import Control, Kind
from .._telemetry import entered
from ._begun_reports import SERIAL, BegunReports, hold_level
from ._definitions import NUMBER, ReceivedDefinitions
from ._endings import SMALL_ARGUMENTS, Endings
from ._forked import call_in_thread, end_copy
from ._forked import state as process_state
from ._local_coro import LocalCoro, current
from ._outcome import Ending, LocalOutcome
from ._task_pool import TaskPool
from ._task_status import RemoteTaskStatus
from ._thread_gate import ThreadGate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..._link import Link
    from ..._wire import Buffer, Frame
    from .._process import Process
    from ._callables import Described
    from ._definitions import Definition

logger = logging.getLogger(__name__)

REPLY = 1
"""The flag of a START frame whose sender waits for STARTED, which reports that the coroutine has begun."""

STATUS = 2
"""The flag of a START frame whose sender waits for the coroutine's own `task_status.started()`."""

KEEP = 16
"""The flag of an OUTCOME frame of a coroutine that has sent its own handle: others may request the outcome."""
AT_ONCE = 4
"""The flag of a START frame of a plain function that begins at once, even if others are computing here."""

ENDING = 15
"""The bits of an OUTCOME frame's flags that hold the `Ending`."""

HELD_SHIFT = 5
"""The bit position of the `hold_level` in an OUTCOME frame's flags. In a BEGUN frame, the flags are the level."""

SIZE = struct.Struct("!Q")
"""The body of a READY frame: the size of the outcome that can be fetched."""

LANE_SHIFT = 40

_VALUE = int(Ending.VALUE)
_OUTCOME = int(Kind.OUTCOME)
_NO_KEYWORDS: dict[str, Any] = {}


class Attach(Control, frozen=True):
    """Request to start coroutines in this process."""


class Attached(Control, frozen=True):
    """Permission to start coroutines, with serial numbers of this lane."""

    lane: int
    """The upper 24 bits of the serial numbers that the starter assigns."""


class _Guest:
    """The state for one process that starts coroutines here."""

    __slots__ = ("functions", "lane", "link", "ready", "running")

    def __init__(self, link: Link, lane: int) -> None:
        self.link = link
        self.lane = lane
        self.functions = ReceivedDefinitions()
        self.running: dict[int, LocalCoro] = {}
        self.ready: dict[int, tuple[int, bytes, Sequence[Any]]] = {}


class Runner:
    """Runs coroutines in this process.

    Attributes:
        small: The largest outcome, in bytes, that is sent without a request.
        open: Whether other processes may start coroutines here.
        submitted: The number of coroutines that other processes have started here.
        ending: The reason why this process ends, once its coroutines are being cancelled for that, and so are lost.
        endings: The ends of these coroutines.
        closing: Whether this process ends because it is idle; starters place coroutines started then elsewhere.
    """

    def __init__(self, process: Process, *, small: int) -> None:
        self.small = small
        self.open = False
        self.closing = False
        self.ending: str | None = None
        self._logs_errors = False
        self._fetched = trio.lowlevel.ParkingLot()
        self.submitted: int = 0
        self.endings: Endings = Endings()
        self.threads: trio.CapacityLimiter | None = None
        self.nursery: trio.Nursery | None = None
        self._process = process
        self._guests: dict[Link, _Guest] = {}
        self._lane = 0
        self._task_pool = TaskPool(self._run_guest)
        self.gate: ThreadGate = ThreadGate()
        # For async functions and for plain ones.
        self._begun: tuple[BegunReports, BegunReports] = (BegunReports(), BegunReports(self.gate))
        services = process.endpoint.services
        services.on_frame(Kind.DEFINE, self._define)
        services.on_frame(Kind.START, self._start)
        services.on_frame(Kind.CANCEL, self._cancel)
        services.on_frame(Kind.FETCH, self._fetch)
        services.on_frame(Kind.REVOKE, self._revoke)
        services.on_request(Attach, self._attach, trust=ANY)
        services.links_lost.append(self._lost)

    @property
    def busy(self) -> bool:
        """Whether a coroutine of another process runs here, or has an outcome that was not fetched yet."""
        return any(guest.running or guest.ready for guest in self._guests.values())

    def running(self) -> dict[int, LocalCoro]:
        """Return the coroutines that run here for other processes, by serial number."""
        return {serial: local for guest in self._guests.values() for serial, local in guest.running.items()}

    async def until_fetched(self) -> None:
        """Wait until all large outcomes have been fetched or are no longer needed."""
        while any(guest.ready for guest in self._guests.values()):
            await self._fetched.park()

    # --- frames of a guest

    async def _attach(self, link: Link, _message: Attach) -> Attached:
        # A peer with an introduction may use what runs here, but start nothing.
        introduced = link.trust is Trust.LEASE and link.realm != self._process.realm
        if introduced or not self.open:
            text = "no coroutines can be started in this process"
            raise ProtocolError(text)
        guest = self._guests.get(link)
        if guest is None:
            self._lane += 1
            guest = self._guests[link] = _Guest(link, self._lane)
        return Attached(guest.lane)

    def _guest(self, link: Link, serial: int) -> _Guest:
        guest = self._guests.get(link)
        if guest is None or serial >> LANE_SHIFT != guest.lane:
            text = f"{link.peer_name} named a coroutine that is not its own"
            raise ProtocolError(text)
        return guest

    def _define(self, link: Link, frame: Frame) -> None:
        guest = self._guests.get(link)
        if guest is None:
            text = f"{link.peer_name} defined a function before it was attached"
            raise ProtocolError(text)
        guest.functions.define(frame)

    def _start(self, link: Link, frame: Frame) -> None:
        _, flags, serial, body, buffers = frame
        guest = self._guest(link, serial)
        if self.ending is not None:
            link.send(Kind.RETURNED, 0, SERIAL.pack(serial))
            return
        if self.closing or self.nursery is None:
            return  # this process ends, and its starter no longer waits for the coroutine
        self.submitted += 1
        if serial in self._process.locals:
            text = f"{link.peer_name} started coroutine {serial} twice"
            raise ProtocolError(text)
        definition = guest.functions.called(body)
        self._process.locals[serial] = guest.running[serial] = local = LocalCoro(serial, "", link, self._process, None)
        if flags & STATUS:
            local.status = RemoteTaskStatus(link, serial)
        self._task_pool.put(self.nursery, guest, local, definition, body, buffers, flags)

    def _cancel(self, link: Link, frame: Frame) -> None:
        local = self._process.locals.get(frame.target)
        if local is not None:
            if self._process.introductions.allows(link, self._process.id, frame.target, end=True):
                local.cancel(bytes(frame.body).decode(errors="replace") or None)
            return
        guest = self._guests.get(link)
        self._fetched.unpark_all()
        if guest is not None and guest.ready.pop(frame.target, None) is not None:
            link.send(Kind.OUTCOME, frame.target, frame.body, Ending.CANCELLED, keys=(~frame.target,))

    def _revoke(self, link: Link, frame: Frame) -> None:
        serials = serials_of(frame)
        for serial in serials:
            self._guest(link, serial)
        self._give_back(link, self._guests[link], serials)

    def end(self, reason: str, *, logs_errors: bool) -> None:
        """Note that this process ends: running coroutines will be cancelled and are lost; waiting ones never begin.

        Args:
            reason: The reason.
            logs_errors: Whether coroutines that fail in their clean-up are logged and also lost; otherwise their
                outcome is that error.
        """
        self.ending, self._logs_errors = reason, logs_errors
        for link, guest in self._guests.items():
            if not link.lost:
                self._give_back(link, guest, list(guest.running))

    def _give_back(self, link: Link, guest: _Guest, serials: Sequence[int]) -> None:
        """Return coroutines that have not begun to their starter, which can start them elsewhere."""
        returned = bytearray()
        for serial in serials:
            local = guest.running.get(serial)
            if local is None or local.begun:
                continue
            local.returned = True
            self.submitted -= 1
            del guest.running[serial]
            self._process.end_local(local)
            if local.scope is not None:  # a plain function that waits in the thread gate
                local.scope.cancel()
            returned += SERIAL.pack(serial)
        if returned:
            link.send(Kind.RETURNED, 0, bytes(returned))

    def _fetch(self, link: Link, frame: Frame) -> None:
        ready = self._guest(link, frame.target).ready.pop(frame.target, None)
        self._fetched.unpark_all()
        if ready is not None:
            flags, body, buffers = ready
            link.send_kept(Kind.OUTCOME, frame.target, body, flags, buffers, (~frame.target,))

    def _lost(self, link: Link) -> None:
        guest = self._guests.pop(link, None)
        self._fetched.unpark_all()
        if guest is not None:
            for local in list(guest.running.values()):
                local.cancel("the process that started it is gone")

    # --- running

    async def _admitted(
        self, task: trio.lowlevel.Task, local: LocalCoro, definition: Definition, scope: trio.CancelScope, flags: int
    ) -> bool:
        """Wait until a plain function may begin; return False if it was cancelled or taken back before."""
        local.waited = 0.0
        nursery = self._process.endpoint.nursery
        if self.gate.enter_now(task, nursery, force=bool(flags & AT_ONCE)):
            return True
        local.scope = scope
        local.name = definition.name  # it may wait for long, and reports and monitors show it meanwhile
        try:
            local.waited = await self.gate.enter(nursery)
        except trio.Cancelled:
            return False
        if local.cancelled or local.returned:
            self.gate.leave(task)
            return False
        return True

    async def _run_guest(  # noqa: PLR0917 - called by position
        self,
        task: trio.lowlevel.Task,
        scope: trio.CancelScope,
        guest: _Guest,
        local: LocalCoro,
        definition: Definition,
        body: Buffer,
        buffers: Sequence[Buffer],
        flags: int,
    ) -> bool:
        serial, link = local.serial, local.link
        assert link is not None  # noqa: S101 - coroutines of guests have a link
        began = 0.0
        value: object = None
        failed: LocalOutcome | None = None
        plain = not local.returned and (definition.plain if definition.plain is not None else definition.is_plain())
        admitted = not plain or local.cancelled or await self._admitted(task, local, definition, scope, flags)
        if local.returned:
            return local.scope is None
        if local.cancelled or not admitted:
            # It has not begun. If it was not cancelled itself, all coroutines of this process are being cancelled.
            plain = False
            failed = LocalOutcome.cancelled(local.reason if local.cancelled else "its process ends")
        else:
            task.name = definition.name
            local.scope = scope
            local.begun = True
            began = perf_counter()
            reports = self._begun[plain]
            reports.begun(local, began, self._process.endpoint.nursery)
            if flags & REPLY:  # not earlier: after STARTED, the starter relies on its clean-up
                link.send(Kind.STARTED, serial)
                link.flush()  # now, as it may block this thread
            token = current.set((local,))
            try:
                running = self._opened(definition, local, body, buffers)
                # The arguments are not kept here, as coroutines may run for long and there may be very many of them.
                del body, buffers
                value = await running
            except BaseException as error:  # noqa: BLE001 - a coroutine's error belongs to its starter
                failed = _failed(local, error)
            if process_state.forked:
                end_copy(failed.raised if failed is not None else None)
            current.reset(token)
            if local.span is not None:
                local.span.leave(LocalOutcome.returned(value) if failed is None else failed)
            reports.ended(local)
            if plain:
                self.gate.leave(task)
        self._process.end_local(local)
        del guest.running[serial]
        if failed is None:
            ending, body_out, buffers_out = self._packed(local, value)
        else:
            ending, body_out, buffers_out = self._packed_failure(local, failed)
        if local.begun:
            ending |= hold_level(perf_counter() - began) << HELD_SHIFT
        if not link.lost:
            if local.shown is not None and local.shown.sent:
                ending |= KEEP
            self._send_outcome(link, guest, local, ending, body_out, buffers_out)
        return local.scope is None or not local.cancelled

    def _opened(
        self, definition: Definition, local: LocalCoro, body: Buffer, buffers: Sequence[Buffer]
    ) -> Awaitable[object]:
        """Unpickle the function and arguments of a start, and call the function."""
        described = definition.known
        if described is None:
            try:
                described = definition.described()
            except Exception as error:
                say_not_opened(error, "The function of this coroutine")
                raise
        local.name = described.name
        try:
            content = loads(body[NUMBER.size :], buffers)
        except Exception as error:
            say_not_opened(error, f"The arguments of {described.name}")
            raise
        small = len(body) <= SMALL_ARGUMENTS and not buffers
        local.function = described.name
        if type(content) is tuple:
            if small:
                local.given = content, _NO_KEYWORDS
            return self.called(described, local, content, {})
        args, kwargs, name, *traced = content
        if traced:
            local.span = entered(traced[0], name or described.name, self._process.endpoint.location)
        local.name = name or described.name
        if small:
            local.given = args, kwargs
        return self.called(described, local, args, kwargs)

    def called(
        self, described: Described, local: LocalCoro, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[object]:
        """Call a function as the coroutine `local`, in a worker thread if it is a plain one."""
        function = described.function if described.own is None else described.bound_to(local.handle)
        if local.status is not None:
            kwargs = {**kwargs, "task_status": local.status}
        if described.is_async:
            awaitable: Awaitable[object] = function(*args, **kwargs)
            return awaitable
        in_thread = partial(call_in_thread, partial(function, *args, **kwargs))
        return trio.to_thread.run_sync(in_thread, limiter=self.threads, thread_name=local.name)

    async def outcome(self, local: LocalCoro, opened: Callable[[], Awaitable[object]]) -> LocalOutcome:
        """Run a coroutine to its end and return its outcome; it never raises.

        Args:
            local: The coroutine.
            opened: Calls its function; the return value is awaited.
        """
        assert local.scope is not None  # noqa: S101 - coroutines started in this process always have one
        current.set((local,))
        try:
            with local.scope:
                return LocalOutcome.returned(await opened())
        except BaseException as error:  # noqa: BLE001 - a coroutine's error belongs to its starter
            return _failed(local, error)
        return LocalOutcome.cancelled(local.reason)

    def _packed(self, local: LocalCoro, value: object) -> tuple[int, bytes, Sequence[Any]]:
        try:
            body, buffers = dumps(value)
        except NotPicklable as unsendable:
            # The traceback of our own code does not help the user.
            return self._packed_failure(local, LocalOutcome.failed(unsendable.with_traceback(None)))
        if self.endings.room > 0 or local.serial in self.endings.known:
            self.endings.note(local, Ending.VALUE, None)
        return _VALUE, body, buffers

    def _packed_failure(self, local: LocalCoro, ended: LocalOutcome) -> tuple[int, bytes, Sequence[Any]]:
        error = ended.raised
        assert error is not None  # noqa: S101 - all other endings carry one
        self.endings.note(local, ended.ending, error)
        lost = self.ending is not None and not local.cancelled
        if lost and (self._logs_errors or ended.ending is Ending.CANCELLED):
            assert self.ending is not None  # noqa: S101 - see above
            if ended.ending is Ending.ERROR:
                logger.error(
                    "%s failed in its clean-up, as its server ends: %s",
                    printable(local.name),
                    self.ending,
                    exc_info=error,
                )
            return Ending.LOST, self.ending.encode(), ()
        if isinstance(error, CoroCancelled) and ended.ending is Ending.CANCELLED:
            return Ending.CANCELLED, (error.reason or "").encode(), ()
        where = f"{local.name} at {self._process.endpoint.location}"
        return Ending.ERROR, *pack_error(error, where=where)

    def _send_outcome(  # noqa: PLR0917 - by position, as `_forwarded` gives it
        self, link: Link, guest: _Guest, local: LocalCoro, ending: int, body: bytes, buffers: Sequence[Any]
    ) -> None:
        """Send an outcome, or keep it and announce that it can be fetched."""
        problem = too_large(body, buffers) if buffers or len(body) > self.small else None
        if problem is not None:
            error = NotPicklable(f"the outcome of {local.name} {problem}")
            ending, (body, buffers) = Ending.ERROR, pack_error(error, where=local.name)
        size = len(body)
        if buffers:
            size += sum(memoryview(buffer).nbytes for buffer in buffers)
        if size > self.small:
            guest.ready[local.serial] = (ending, body, buffers)
            link.send(Kind.READY, local.serial, SIZE.pack(size), keys=(local.source,))
        else:
            link.send(_OUTCOME, local.serial, body, ending, buffers, (local.source,))


def serials_of(frame: Frame) -> list[int]:
    """Return the serial numbers in the body of a BEGUN, REVOKE or RETURNED frame. ProtocolError if there are none."""
    body = frame.body
    if not body or len(body) % SERIAL.size:
        text = f"a list of coroutines has {len(body)} bytes"
        raise ProtocolError(text)
    return [serial for (serial,) in SERIAL.iter_unpack(body)]


def _failed(local: LocalCoro, error: BaseException) -> LocalOutcome:
    """Return the outcome of a coroutine that raised an error, as its cancel scope would treat the error."""
    rest: BaseException | None = error
    if isinstance(error, trio.Cancelled):
        rest = None
    elif isinstance(error, BaseExceptionGroup):
        _, rest = error.split(trio.Cancelled)
    if rest is None:
        # If its own scope was not cancelled, all coroutines of this process are being cancelled.
        return LocalOutcome.cancelled(local.reason if local.cancelled else local.reason or "its process ends")
    if local.cancelled:
        error = rest
    return LocalOutcome.failed(error)
