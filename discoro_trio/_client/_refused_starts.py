"""Coroutines that a server refused because it was just closed as idle: they are placed again elsewhere.

Such a server has begun nothing since it decided to close, so that what has no outcome was never run. This is kept only
for computations whose idle servers are closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import DiscoroError
from .._process import LocalOutcome
from ._status import note_moved

if TYPE_CHECKING:
    import trio

    from .._process import Call, Host, Submission
    from ._server import LeasedServer
    from ._session import Session


class RefusedStarts:
    """What is needed to start the coroutines of one session again."""

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self._session = session
        self._nursery = nursery
        self._calls: dict[Submission, tuple[Call, bool]] = {}

    def keep(self, started: Submission, call: Call, *, acknowledge: bool) -> None:
        """Keep how a coroutine is started, until it ends."""
        self._calls[started] = (call, acknowledge)
        started.then(self._forget)

    def _forget(self, started: Submission) -> None:
        self._calls.pop(started, None)

    def refused(self, host: Host) -> None:
        """Place again what was on its way to a server that closed as idle."""
        for serial, started in list(host.started.items()):
            if started in self._calls:
                del host.started[serial]
                self._session.records.keep(started)
                how = self._calls[started]
                self._nursery.start_soon(self._place, started, *how, name="place a coroutine again")

    async def _place(
        self,
        started: Submission,
        call: Call,
        acknowledge: bool,  # noqa: FBT001 - started in a nursery
    ) -> None:
        try:
            server = await self._next_server()
            if started.outcome is not None:  # it was cancelled meanwhile
                return
            new = server.host.start(call, acknowledge=acknowledge)
        except DiscoroError as error:
            started.end(LocalOutcome.lost(error))
            return
        self._session.load_balancer.change(server.server_id, 1)
        # The record stays the same for those who hold it; it is told of as created once.
        started.home, started.serial, started.host = new.home, new.serial, server.host
        server.host.started[new.serial] = started
        note_moved(server, started)

    async def _next_server(self) -> LeasedServer:
        session = self._session
        while True:
            session.check_open()
            server_id = session.load_balancer.least()
            if server_id is None:
                await session.until_changed()
            elif session.servers[server_id].host.link.lost:
                session.topology.withdraw(session.servers[server_id])
            else:
                return session.servers[server_id]

    def cancelled(self, started: Submission, reason: str | None) -> None:
        """End a coroutine that is between two servers."""
        if started in self._calls:
            started.end(LocalOutcome.cancelled(reason))
