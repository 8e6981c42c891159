"""The reports of a node to its schedulers: heartbeats, starts and ends of servers, and their coroutines.

This module owns the sending tasks, one per scheduler. `_leasing` reports the leases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from ..._errors import PeerDisconnected
from ..._process import MOST_GROUPS, merged_failures
from .. import _messages as messages
from ..server._reports import LAST_LINES, MOST_ENDED, Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._link import Link
    from ..._process import FailureGroup
    from ..._wire import Control
    from ._resource_usage import Vitals
    from ._server_slot import NodeServer


MOST_LISTED = 100_000
"""The most running coroutines of one server that are listed; further ones are only counted."""
MOST_ARGUMENTS = 1_000
"""The most of these whose arguments are forwarded; a monitor requests those of the others when needed."""
LONGEST_NAME = 256
"""The most characters of a coroutine's name, and of the text of its progress."""
LONGEST_TEXT = 8 * 1024
"""The most characters of other texts: tracebacks, arguments, lines of output."""

_NAMES = {"name", "coro", "kind", "state", "level", "starter"}

T = TypeVar("T", bound=msgspec.Struct)


class Standing:
    """The merged reports of one server so far, for a scheduler that joins later, such as a restarted one.

    A job can send its node any report in the name of its server, so this bounds what is kept and forwarded.
    """

    def __init__(self, computation: bytes) -> None:
        self.computation = computation
        self._last: messages.Report | None = None
        self._running: dict[int, messages.RunningCoro] = {}
        self._progress: dict[int, messages.CoroProgress] = {}
        self._failures: list[FailureGroup] = []

    def add(self, report: messages.Report) -> messages.Report:
        """Add the next report; return what to forward of it."""
        started = [self._listed(coro) for coro in report.started[: MOST_LISTED - len(self._running)]]
        self._running.update({coro.serial: coro for coro in started})
        progress = [_shortened(one, LONGEST_NAME) for one in report.progress if one.serial in self._running]
        self._progress.update({one.serial: one for one in progress})
        # With those in `ended`: a scheduler that is slow does not get the details of all of them.
        over = [serial for serial in (*report.gone, *(one.serial for one in report.ended)) if serial in self._running]
        for serial in over:
            self._running.pop(serial, None)
            self._progress.pop(serial, None)
        failures = [_shortened(one) for one in report.failures if 0 <= one.number <= MOST_GROUPS + 1]
        if failures:
            self._failures = merged_failures(self._failures, failures)
        told = msgspec.structs.replace(
            report,
            started=started,
            gone=over,
            ended=[_shortened(one) for one in report.ended[-MOST_ENDED:]],
            failures=failures,
            progress=progress,
            lines=[_shortened(one) for one in report.lines[-LAST_LINES:]],
        )
        self._last = msgspec.structs.replace(told, started=[], gone=[], ended=[], failures=[], progress=[], lines=[])
        return told

    def _listed(self, coro: messages.RunningCoro) -> messages.RunningCoro:
        if coro.args is not None and len(self._running) >= MOST_ARGUMENTS:
            coro = msgspec.structs.replace(coro, args=None)
        return _shortened(coro)

    def whole(self) -> messages.Report | None:
        """Return one report for all; None if there was none. It has no details of coroutines that ended earlier."""
        if self._last is None:
            return None
        return msgspec.structs.replace(
            self._last,
            started=list(self._running.values()),
            failures=self._failures,
            progress=list(self._progress.values()),
        )


class NodeReports:
    """The schedulers of a node, and the reports to them."""

    def __init__(
        self,
        vitals: Vitals,
        servers: Callable[[], Iterable[NodeServer]],
        blocked: Callable[[], dict[bytes, messages.Blocked]],
    ) -> None:
        self._vitals = vitals
        self._servers = servers
        self._blocked = blocked
        self._outlets: dict[bytes, Outlet] = {}
        self._standing: dict[bytes, Standing] = {}

    async def tell(self, scheduler: Link, interval: float, served: Iterable[NodeServer] = ()) -> None:
        """Send a scheduler all reports until the connection ends.

        Args:
            scheduler: The link to it.
            interval: Seconds between two heartbeats.
            served: The servers of computations for which it is already responsible.
        """
        outlet = Outlet(scheduler)
        self._outlets[scheduler.peer.process_id] = outlet
        for server in self._servers():
            scheduler.notify(_seen(server))
            if server.kept:
                scheduler.notify(messages.FilesStay(server.process_id, str(server.folder)))
        for server in served:
            standing = self._standing.get(server.process_id)
            report = None if standing is None else standing.whole()
            if standing is not None and report is not None:
                outlet.put(standing.computation, server.process_id, report)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_run, outlet)
                nursery.start_soon(self._pulse, scheduler, interval)
                await scheduler.ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self._outlets.get(scheduler.peer.process_id) is outlet:
                del self._outlets[scheduler.peer.process_id]

    async def _pulse(self, scheduler: Link, interval: float) -> None:
        while True:
            scheduler.notify(await self._vitals.sample(self._blocked()))
            await trio.sleep(interval)

    def reported(self, scheduler_id: bytes, computation: bytes, server: NodeServer, report: messages.Report) -> None:
        """Forward a server's report to the responsible scheduler."""
        told = self._standing.setdefault(server.process_id, Standing(computation)).add(report)
        outlet = self._outlets.get(scheduler_id)
        if outlet is not None:
            outlet.put(computation, server.process_id, told)

    def up(self, server: NodeServer) -> None:
        """Report a server that listens."""
        self._all(_seen(server))

    def files_stay(self, server: NodeServer) -> None:
        """Report the folder in which the files of a server are kept."""
        self._all(messages.FilesStay(server.process_id, str(server.folder)))

    def gone(self, server: NodeServer, reason: str) -> None:
        """Report a server that has ended, after its own last report."""
        self._standing.pop(server.process_id, None)
        for outlet in self._outlets.values():
            outlet.flush(server.process_id)
        over = server.lease is not None and server.lease.ending is not None
        self._all(messages.ServerLeft(server.process_id, bool(server.reason), over, reason))

    def _all(self, message: Control) -> None:
        for outlet in self._outlets.values():
            outlet.link.notify(message)


def _shortened(entry: T, longest: int = LONGEST_TEXT) -> T:
    """Return an entry of a report whose texts have at most `longest` characters, and its names `LONGEST_NAME`."""
    longer = {}
    for field in entry.__struct_fields__:
        value, most = getattr(entry, field), LONGEST_NAME if field in _NAMES else longest
        if isinstance(value, str | bytes) and len(value) > most:
            longer[field] = value[:most]
    return msgspec.structs.replace(entry, **longer) if longer else entry


async def _run(outlet: Outlet) -> None:
    try:
        await outlet.run()
    except PeerDisconnected:
        return


def _seen(server: NodeServer) -> messages.ServerSeen:
    return messages.ServerSeen(server.process_id, server.link.peer.name, server.location.addr, server.location.port)
