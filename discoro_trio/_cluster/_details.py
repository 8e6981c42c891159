"""Details of a server's coroutines, fetched on request: arguments as text, and the end of the output.

A monitor asks its scheduler, the scheduler asks the node, and the node asks its server. A process that does not answer
is left out: nothing waits longer than `PATIENCE` for a server whose thread is blocked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from .._errors import DiscoroError
from .._link import Trust, answered
from .._process import OutputLine, described_arguments
from .._wire import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._link import Endpoint, Link
    from .._process import Process, output
    from .node._server_slot import NodeServer
    from .scheduler._observed_state import ObservedState

PATIENCE = 1.0
"""Seconds that a server has to answer its node; its node has twice as many to answer the scheduler."""
MOST_LINES = 500
"""The most lines of output of one server in one answer."""
MOST_COROUTINES = 1_000
"""The most coroutines of one server in one answer."""


class WantedOf(msgspec.Struct, frozen=True, array_like=True):
    """The details wanted of one server."""

    server_id: bytes
    serials: list[int] = []
    """The numbers of coroutines whose arguments are wanted."""
    lines_after: int | None = None
    """The number of the last line of output that the requester has, 0 for all lines; None if none are wanted."""


class ToldOf(msgspec.Struct, frozen=True, array_like=True):
    """The details of one server."""

    server_id: bytes
    arguments: dict[int, str]
    """As text, by the number of the coroutine; coroutines that have ended are left out."""
    lines: list[OutputLine]


class AskDetails(Control, frozen=True):
    """Request details of servers from a scheduler or a node; answered by `DetailsAre`."""

    wanted: list[WantedOf]


class AskOwnDetails(Control, frozen=True):
    """Node to server: request its details; answered by `DetailsAre` with one entry."""

    wanted: WantedOf


class DetailsAre(Control, frozen=True):
    """The details of the servers that answered in time."""

    told: list[ToldOf]


class ServerDetails:
    """Answers requests for the details of one server.

    Args:
        process: The server's process state.
        written: Returns its output; None before it works for a computation, or if its output is not forwarded.
    """

    def __init__(self, process: Process, written: Callable[[], output.Output | None]) -> None:
        self._process = process
        self._written = written
        process.endpoint.services.on_request(AskOwnDetails, self._asked, trust=Trust.KIN)

    async def _asked(self, _link: Link, ask: AskOwnDetails) -> DetailsAre:
        wanted, locals_ = ask.wanted, self._process.locals
        known = [locals_[serial] for serial in wanted.serials[:MOST_COROUTINES] if serial in locals_]
        found = {local.serial: described_arguments(local) for local in known if local.begun or local.link is None}
        written, seen = self._written(), wanted.lines_after
        lines = [] if written is None or seen is None else written.kept.after(seen, MOST_LINES)
        return DetailsAre([ToldOf(wanted.server_id, found, lines)])


class NodeDetails:
    """Forwards requests to the servers of a node.

    Args:
        endpoint: The node's endpoint.
        servers: Returns the servers that listen.
    """

    def __init__(self, endpoint: Endpoint, servers: Callable[[], Iterable[NodeServer]]) -> None:
        self._servers = servers
        endpoint.services.on_request(AskDetails, self._asked)

    async def _asked(self, _link: Link, ask: AskDetails) -> DetailsAre:
        links = {server.process_id: server.link for server in self._servers()}
        questions = [(links[one.server_id], AskOwnDetails(one)) for one in ask.wanted if one.server_id in links]
        return await _all_told(questions, PATIENCE)


class SchedulerDetails:
    """Forwards requests to nodes."""

    def __init__(self, endpoint: Endpoint, observed_state: ObservedState) -> None:
        self._endpoint = endpoint
        self._observed_state = observed_state
        endpoint.services.on_request(AskDetails, self._asked)

    async def _asked(self, _link: Link, ask: AskDetails) -> DetailsAre:
        return await self.fetch(ask.wanted)

    async def fetch(self, wanted: Iterable[WantedOf]) -> DetailsAre:
        """Return the servers' details; servers that do not answer in time are left out."""
        by_node: dict[bytes, list[WantedOf]] = {}
        for one in wanted:
            node_id = self._observed_state.node_of(one.server_id)
            if node_id is not None:
                by_node.setdefault(node_id, []).append(one)
        links: Mapping[bytes, Link] = self._endpoint.links
        questions = [(links[node_id], AskDetails(found)) for node_id, found in by_node.items() if node_id in links]
        return await _all_told(questions, 2 * PATIENCE)


async def _all_told(questions: Iterable[tuple[Link, Control]], patience: float) -> DetailsAre:
    told: list[ToldOf] = []

    async def ask(link: Link, question: Control) -> None:
        try:
            told.extend(answered(await link.request(question, timeout=patience), DetailsAre).told)
        except DiscoroError:
            return  # it is busy, or gone

    async with trio.open_nursery() as nursery:
        for link, question in questions:
            nursery.start_soon(ask, link, question)
    return DetailsAre(told)
