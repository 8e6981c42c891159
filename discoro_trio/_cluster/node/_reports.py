"""What a node tells its schedulers of itself: pulses, servers that come and go, what runs there.

This module owns the tasks that do it, one a scheduler. Leases are spoken of by `_leasing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..._errors import PeerDisconnected
from ..._process import merged_failures
from .. import _messages as messages
from ..server._reports import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._link import Link
    from ..._process import FailureGroup
    from ..._wire import Control
    from ._resource_usage import Vitals
    from ._server_slot import NodeServer


class Standing:
    """What one server has reported so far, for a scheduler that joins later: one that was started again, say."""

    def __init__(self, computation: bytes) -> None:
        self.computation = computation
        self._last: messages.Report | None = None
        self._running: dict[int, messages.RunningCoro] = {}
        self._progress: dict[int, messages.CoroProgress] = {}
        self._failures: list[FailureGroup] = []

    def add(self, report: messages.Report) -> None:
        """Take the next report."""
        self._last = report
        self._running.update({coro.serial: coro for coro in report.started})
        self._progress.update({one.serial: one for one in report.progress})
        for serial in (*report.gone, *(one.serial for one in report.ended)):
            self._running.pop(serial, None)
            self._progress.pop(serial, None)
        if report.failures:
            self._failures = merged_failures(self._failures, report.failures)

    def whole(self) -> messages.Report | None:
        """Return all of it as one report; None if there was none. How coroutines ended before, it does not say."""
        if self._last is None:
            return None
        return msgspec.structs.replace(
            self._last,
            started=list(self._running.values()),
            gone=[],
            ended=[],
            failures=self._failures,
            progress=list(self._progress.values()),
            lines=[],
        )


class NodeReports:
    """The schedulers of a node, and what they are told."""

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
        """Tell a scheduler everything until the connection ends.

        Args:
            scheduler: The link to it.
            interval: Seconds between two pulses.
            served: The servers whose computations it answers for already.
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
        """Pass a server's report on to the scheduler that it is about."""
        self._standing.setdefault(server.process_id, Standing(computation)).add(report)
        outlet = self._outlets.get(scheduler_id)
        if outlet is not None:
            outlet.put(computation, server.process_id, report)

    def up(self, server: NodeServer) -> None:
        """Tell of a server that listens."""
        self._all(_seen(server))

    def files_stay(self, server: NodeServer) -> None:
        """Report where the files of a server stay."""
        self._all(messages.FilesStay(server.process_id, str(server.folder)))

    def gone(self, server: NodeServer, reason: str) -> None:
        """Report a server that has ended, after what it has reported itself."""
        self._standing.pop(server.process_id, None)
        for outlet in self._outlets.values():
            outlet.flush(server.process_id)
        over = server.lease is not None and server.lease.ending is not None
        self._all(messages.ServerLeft(server.process_id, bool(server.reason), over, reason))

    def _all(self, message: Control) -> None:
        for outlet in self._outlets.values():
            outlet.link.notify(message)


async def _run(outlet: Outlet) -> None:
    try:
        await outlet.run()
    except PeerDisconnected:
        return


def _seen(server: NodeServer) -> messages.ServerSeen:
    return messages.ServerSeen(server.process_id, server.link.peer.name, server.location.addr, server.location.port)
