"""Coroutines that a server refused because it was just closed as idle: they are placed again elsewhere.

Such a server has begun nothing since it decided to close, so that what has no outcome was never run. This is kept only
for computations whose idle servers are closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import DiscoroError
from ..process import Here

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from ..process import Call, Host, Started
    from ._session import Session


class Again:
    """What is needed to start the coroutines of one session again."""

    def __init__(self, session: Session, nursery: trio.Nursery) -> None:
        self._session = session
        self._nursery = nursery
        self._calls: dict[Started, tuple[Callable[..., Any], Call, bool]] = {}

    def keep(self, started: Started, function: Callable[..., Any], call: Call, *, acknowledge: bool) -> None:
        """Keep how a coroutine is started, until it ends."""
        self._calls[started] = (function, call, acknowledge)
        started.then(self._forget)

    def _forget(self, started: Started) -> None:
        self._calls.pop(started, None)

    def refused(self, host: Host) -> None:
        """Place again what was on its way to a server that closed as idle."""
        for serial, started in list(host.started.items()):
            if started in self._calls:
                del host.started[serial]
                self._nursery.start_soon(self._place, started, name="place a coroutine again")

    async def _place(self, started: Started) -> None:
        session = self._session
        function, call, acknowledge = self._calls[started]
        try:
            new = await session.start(function, call, acknowledge=acknowledge)
        except DiscoroError as error:
            started.end(Here.lost(error))
            return
        assert new.host is not None  # noqa: S101 - sessions start by links
        if started.outcome is not None:  # it was cancelled meanwhile
            session.cancel(new)
            return
        started.home, started.serial, started.host = new.home, new.serial, new.host
        new.host.started[new.serial] = started

    def cancelled(self, started: Started, reason: str | None) -> None:
        """End a coroutine that is between two servers."""
        if started in self._calls:
            started.end(Here.cancelled(reason))
