"""The starter's side of coroutines in other processes: sending starts and receiving outcomes.

This module owns the numbers of functions and coroutines towards each peer, and the budget for large outcomes. The
callers choose the server of a coroutine, and own the coroutine.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..._arguments import optional_text
from ..._config import config
from ..._errors import NotPicklable, PeerDisconnected, ProtocolError
from ..._link import answered
from ..._records import MutableRecord
from ..._shipping import check_size, dumps
from ..._wire import Kind
from ..._wire._memory import allocate
from .. import _order as order
from .._telemetry import Started
from ._begun_reports import LONGEST_HELD, SERIAL
from ._callables import checked_traits, reject_coro
from ._definitions import Pickled, Sent, snapshot
from ._outcome import Ending, LocalOutcome, arrived
from ._runner import (
    AT_ONCE,
    ENDING,
    HELD_SHIFT,
    KEEP,
    LANE_SHIFT,
    REPLY,
    SIZE,
    STATUS,
    Attach,
    Attached,
    serials_of,
)
from ._submission import Submission
from ._task_status import WITH_VALUE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._link import Link
    from ..._shipping import Shipped
    from ..._wire import Frame
    from .._process import Process


_START, _REVOKE = int(Kind.START), int(Kind.REVOKE)

_ENDINGS = {int(ending): ending for ending in Ending}
"""The endings that an OUTCOME frame may have. A server that shuts down sends LOST, with the reason."""


_MUCH = 16 * 1024 * 1024
"""The size of an outcome from which free memory is checked before it is fetched, in bytes."""

LARGEST_KEPT = 8 * 1024
"""The largest outcome, in bytes, that is kept for processes that got the handle from the coroutine itself."""


class Call:
    """The arguments of one call, pickled."""

    __slots__ = ("args", "body", "buffers", "flags", "function", "kwargs", "name", "plain", "span")

    def __init__(
        self,
        function: Callable[..., Any] | Pickled,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        shipped: Shipped | None,
        name: str | None = None,
        *,
        status: bool = False,
    ) -> None:
        """Pickle the arguments of one call.

        Args:
            function: The function to call, in its current state.
            args: Its arguments.
            kwargs: Its keyword arguments.
            shipped: The code that is pickled by name.
            name: The coroutine's name; by default the function's.
            status: Whether it gets a `task_status`, with which it reports that it is ready (`Submission.until_begun`).

        Raises:
            TypeError: The function cannot be run, or an argument is one that the running process supplies.
            NotPicklable: An argument, or the state of the function, cannot be sent.
        """
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.flags = STATUS if status else 0
        if "coro" in kwargs:
            reject_coro(kwargs)
        checked, plain = checked_traits(function.function if isinstance(function, Pickled) else function)
        self.plain: bool = plain
        self.name: str = checked if name is None else optional_text("name", name) or checked
        self.body: bytes
        self.buffers: Sequence[Any]
        # Most calls have only positional arguments; a list stands for a call with keyword arguments too (see `Runner`).
        self.span: Started | None = None
        if config.opentelemetry:
            self._pickle_traced(name, shipped)
        else:
            content = [args, kwargs, name] if kwargs or name is not None else args
            self.body, self.buffers = dumps(content, shipped)
        if self.buffers or len(self.body) > LARGEST_KEPT:
            check_size(f"what {self.name} is given", self.body, self.buffers)
        self.function: Callable[..., Any] | Pickled = snapshot(function, shipped)

    def _pickle_traced(self, name: str | None, shipped: Shipped | None) -> None:
        """Pickle the arguments with the context of a new span, whose parent is the caller's."""
        span = self.span = Started(self.name)
        try:
            self.body, self.buffers = dumps([self.args, self.kwargs, name, span.carrier], shipped)
        except BaseException as error:
            span.failed(error)
            raise

    @property
    def size(self) -> int:
        """The bytes of its arguments, pickled."""
        return len(self.body) + sum(memoryview(buffer).nbytes for buffer in self.buffers)


class HostOwner(Protocol):
    """The owner of the coroutines at a host, which is notified of their ends."""

    def ended(self, started: Submission) -> None:
        """One of its coroutines has ended."""
        ...

    def begun(self, all_started: Sequence[Submission], level: int) -> None:
        """Some of its coroutines have begun, and let others begin after a time given by `level` (`hold_level`)."""
        ...

    def returned(self, all_started: Sequence[Submission]) -> None:
        """Some starts were taken back, as `Host.revoke` requested: they never begin there."""
        ...

    def host_lost(self) -> None:
        """The connection is lost; the owner decides the outcome of the coroutines there (`lose_all`)."""
        ...

    def host_ends(self, reason: str) -> Exception:
        """Note that the host shuts down; return the error for the coroutines there, which have cleaned up."""
        ...

    async def force(self, started: Submission, grace_period: float | None) -> None:
        """End a cancelled coroutine by force after its grace period."""
        ...


class Host:
    """The state for one process in which this one starts coroutines."""

    __slots__ = ("_counter", "_functions", "_returned", "lane", "link", "owner", "started")

    def __init__(self, link: Link, lane: int, shipped: Shipped | None) -> None:
        self.link: Link = link
        self.lane: int = lane
        self.started: dict[int, Submission] = {}
        self.owner: HostOwner | None = None
        self._counter = 0
        self._returned = 0
        self._functions = Sent(link, shipped)

    @property
    def submitted(self) -> int:
        """The number of coroutines that were started there."""
        return self._counter - self._returned

    def start(
        self,
        call: Call,
        *,
        acknowledge: bool = False,
        at_once: bool = False,
        started: Submission | None = None,
    ) -> Submission:
        """Send the start of a coroutine; never waits.

        Args:
            call: The function and its arguments.
            acknowledge: Whether the host reports that the coroutine has begun (`Submission.until_begun`).
            at_once: Whether a plain function begins at once, even if others are computing there.
            started: The record of a coroutine that is not started anywhere yet; None for a new one.

        Raises:
            NotPicklable: The function cannot be sent; nothing was sent.
            PeerDisconnected: The host is gone.
        """
        number, defined, used = self._functions.head(call.function)
        self._counter += 1
        serial = self.lane << LANE_SHIFT | self._counter
        flags = REPLY if acknowledge else call.flags
        if at_once:
            flags |= AT_ONCE
        keys = (order.started(serial), used)
        self.link.send(_START, serial, number + call.body, flags, call.buffers, keys, (defined,))
        home = self.link.peer.process_id
        if started is None:
            started = Submission(home, serial, call.name, self)
        else:
            started.home, started.serial, started.host = home, serial, self
        self.started[serial] = started
        if call.span is not None:
            call.span.follow(started)
        return started

    def revoke(self, all_started: Sequence[Submission]) -> None:
        """Request starts back that have not begun; never waits. The owner is notified of the result."""
        serials = [started.serial for started in all_started]
        after = tuple(map(order.started, serials))
        self.link.send(_REVOKE, 0, b"".join(map(SERIAL.pack, serials)), after=after)

    def take_back(self, serials: Sequence[int]) -> list[Submission]:
        """Remove starts that the host returned."""
        found = [self.started.pop(serial) for serial in serials if serial in self.started]
        self._returned += len(found)
        return found

    def cancel(self, started: Submission, reason: str | None) -> None:
        """Request the cancellation of a coroutine there."""
        if started.outcome is not None or self.link.lost:
            return
        started.cancelled_for = (reason,)
        if started.serial not in self.started:  # the host returned it, and it waits to be started elsewhere
            started.end(LocalOutcome.cancelled(reason))
        elif self.link.abort_start(started.serial):
            del self.started[started.serial]
            started.end(LocalOutcome.cancelled(reason))
        else:
            after = (order.started(started.serial),)
            self.link.send(Kind.CANCEL, started.serial, (reason or "").encode(), after=after)


class _Budget(MutableRecord):
    """The bytes of large outcomes in flight. Waiting outcomes are served in order; one beyond the limit goes alone."""

    size: int
    used: int = 0
    waiting: deque[tuple[int, Callable[[], bool]]] = msgspec.field(default_factory=deque)

    def want(self, size: int, go: Callable[[], bool]) -> None:
        """Call `go` when there is room; it returns whether the outcome is still needed."""
        self.waiting.append((size, go))
        self._serve()

    def give(self, size: int) -> None:
        self.used -= size
        self._serve()

    def _serve(self) -> None:
        while self.waiting and (not self.used or self.used + self.waiting[0][0] <= self.size):
            size, go = self.waiting.popleft()
            if go():
                self.used += size


class Submissions:
    """All coroutines that this process started in other processes."""

    def __init__(self, process: Process) -> None:
        self.hosts: dict[Link, Host] = {}
        self._process = process
        self._budget = _Budget(config.result_budget)
        # The sizes of outcomes that are being fetched; None for those that were announced and wait for room.
        self._fetching: dict[tuple[Link, int], int | None] = {}
        services = process.endpoint.services
        services.on_frame(Kind.STARTED, self._begun)
        services.on_frame(Kind.BEGUN, self._many_begun)
        services.on_frame(Kind.RETURNED, self._returned)
        services.on_frame(Kind.OUTCOME, self._ended)
        services.on_frame(Kind.READY, self._ready)
        services.links_lost.append(self._lost)

    async def host(
        self,
        link: Link,
        shipped: Shipped | None = None,
        *,
        timeout: float | None = -1.0,  # noqa: ASYNC109 - as for `Link.request`
    ) -> Host:
        """Make sure that coroutines can be started over a link; `timeout` is passed to `Link.request`."""
        host = self.hosts.get(link)
        if host is None:
            reply = await link.request(Attach(), timeout=timeout)
            reply = answered(reply, Attached)
            host = self.hosts.setdefault(link, Host(link, reply.lane, shipped))
        return host

    def running(self, home: bytes, serial: int) -> Submission | None:
        """Return the record of a coroutine that was started in the process `home` and has not ended."""
        link = self._process.endpoint.links.get(home)
        host = None if link is None else self.hosts.get(link)
        return None if host is None else host.started.get(serial)

    def _host(self, link: Link, serial: int) -> Host:
        host = self.hosts.get(link)
        if host is None or serial >> LANE_SHIFT != host.lane:
            text = f"{link.peer_name} referred to a coroutine that was never started there"
            raise ProtocolError(text)
        return host

    def _begun(self, link: Link, frame: Frame) -> None:
        started = self._host(link, frame.target).started.get(frame.target)
        if started is not None:
            if frame.flags & WITH_VALUE:
                started.ready = arrived(Ending.VALUE, frame.body, frame.buffers, started.name)
            started.begun()

    def _many_begun(self, link: Link, frame: Frame) -> None:
        serials = serials_of(frame)
        host = self._host(link, serials[0])
        if host.owner is not None:
            begun = [host.started[serial] for serial in serials if serial in host.started]
            host.owner.begun(begun, min(frame.flags, LONGEST_HELD))

    def _returned(self, link: Link, frame: Frame) -> None:
        serials = serials_of(frame)
        host = self._host(link, serials[0])
        returned = host.take_back(serials)
        if host.owner is not None:
            host.owner.returned(returned)

    def _ready(self, link: Link, frame: Frame) -> None:
        serial = frame.target
        if len(frame.body) != SIZE.size:
            text = "a large outcome is announced without its size"
            raise ProtocolError(text)
        (size,) = SIZE.unpack(frame.body)
        if serial not in self._host(link, serial).started:
            return
        if (link, serial) in self._fetching:
            text = f"{link.peer_name} announced an outcome twice"
            raise ProtocolError(text)
        problem = _too_large_here(size)
        if problem is not None:
            started = self._host(link, serial).started.pop(serial)
            link.send(Kind.CANCEL, serial)  # so that the host does not keep it, either
            started.end(LocalOutcome.failed(NotPicklable(f"the result of {started.name} has {size} bytes, {problem}")))
            return
        self._fetching[link, serial] = None

        def fetch() -> bool:
            if link.lost or (link, serial) not in self._fetching:  # it ended meanwhile
                return False
            self._fetching[link, serial] = size
            link.send(Kind.FETCH, serial)
            return True

        self._budget.want(size, fetch)

    def _ended(self, link: Link, frame: Frame) -> None:
        _, flags, serial, body, buffers = frame
        host = self._host(link, serial)
        ending = _ENDINGS.get(flags & ENDING)
        if ending is None:
            text = f"an outcome has the unknown ending {flags}"
            raise ProtocolError(text)
        if self._fetching:
            self._fetched(link, serial)
        started = host.started.pop(serial, None)
        if started is not None:
            started.level = flags >> HELD_SHIFT
            if flags & KEEP and len(body) <= LARGEST_KEPT:
                self._process.outcome_store.keep(started, recent=True)
            if ending is Ending.LOST:
                started.end(LocalOutcome.lost(_ends(host, bytes(body).decode(errors="replace"))))
            else:
                started.end(arrived(ending, body, buffers, started.name))

    def _fetched(self, link: Link, serial: int) -> None:
        size = self._fetching.pop((link, serial), None)
        if size is not None:
            self._budget.give(size)

    def _lost(self, link: Link) -> None:
        host = self.hosts.pop(link, None)
        if host is None:
            return
        for _, serial in [key for key in self._fetching if key[0] is link]:
            self._fetched(link, serial)
        if host.owner is not None:
            host.owner.host_lost()
        else:
            lose_all(host, PeerDisconnected(f"the connection to {link.peer_name} is lost"))


def _too_large_here(size: int) -> str | None:
    """Return why this process cannot take an outcome of this many bytes; None if it can."""
    if size > config.max_message_size:
        return f"and config.max_message_size allows {config.max_message_size} here"
    if size >= _MUCH:
        try:
            allocate(size)  # no page is provided before it is written
        except ProtocolError:
            return "for which this process has no memory"
    return None


def _ends(host: Host, reason: str) -> Exception:
    if host.owner is not None:
        return host.owner.host_ends(reason)
    return PeerDisconnected(f"{host.link.peer_name} ends: {reason}")


def lose_all(host: Host, error: Exception) -> None:
    """End all coroutines of a host that is gone."""
    started, host.started = host.started, {}
    for record in started.values():
        record.end(LocalOutcome.lost(error))
