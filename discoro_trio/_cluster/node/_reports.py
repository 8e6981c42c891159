"""What a node tells its schedulers of itself: pulses, servers that come and go, what runs there.

This module owns the tasks that do it, one a scheduler. Leases are spoken of by `_leasing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..._errors import PeerDisconnected
from .. import _messages as messages
from ..server._reports import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._link import Link
    from ..._wire import Control
    from ._resource_usage import Vitals
    from ._server_slot import NodeServer


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

    async def tell(self, scheduler: Link, interval: float) -> None:
        """Tell a scheduler everything until the connection ends."""
        outlet = Outlet(scheduler)
        self._outlets[scheduler.peer.process_id] = outlet
        for server in self._servers():
            scheduler.notify(_seen(server))
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
        outlet = self._outlets.get(scheduler_id)
        if outlet is not None:
            outlet.put(computation, server.process_id, report)

    def up(self, server: NodeServer) -> None:
        """Tell of a server that listens."""
        self._all(_seen(server))

    def gone(self, server: NodeServer, reason: str) -> None:
        """Report a server that has ended, after what it has reported itself."""
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
