"""The status of a scheduler: tables, and events for subscribers.

It receives events and decides nothing. Nodes report to it directly.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import trio

from ..._status import Status
from ..._values import Location
from .. import _messages as messages
from .._status_events import Publisher
from .._tables import status_as_json
from ._observed_state import ObservedState
from ._translation import info

if TYPE_CHECKING:
    from ..._link import Endpoint, Link
    from .._history import Recent
    from .._launcher import Launcher
    from .._status import ClusterStatus
    from ._effects import ClaimOver, TellTurn
    from ._observed_state import ClusterLoad
    from ._scheduling import Scheduling

_UNKNOWN = Location("unknown", 0)


class Overview:
    """The status of a scheduler's nodes, servers and clients.

    Attributes:
        publisher: The subscribers.
        observed_state: The observed state of servers.
        launcher: What starts nodes for the scheduler.
    """

    def __init__(self, endpoint: Endpoint, state: Scheduling) -> None:
        self.publisher = Publisher(self.tables)
        self._location = endpoint.location
        self._state = state
        self.observed_state = ObservedState()
        self.launcher: Launcher | None = None
        self._clients: dict[bytes, Location] = {}
        services = endpoint.services
        services.on_notice(messages.ServerSeen, self._server_seen)
        services.on_notice(messages.FilesStay, self._files_stay)
        services.on_notice(messages.ServerLeft, self._server_left)
        services.on_notice(messages.ServerReport, self._reported)
        services.on_request(messages.AskStatus, self._asked)
        services.on_notice(messages.Demand, self._demanded)
        services.on_notice(messages.Skew, self._skewed)
        services.on_notice(messages.StartedThere, self._started_there)

    @property
    def clients(self) -> list[bytes]:
        """The ids of the clients that have computations here."""
        return list(self._clients)

    @property
    def nodes(self) -> list[bytes]:
        """The ids of the nodes."""
        return list(self._state.nodes)

    def tables(self) -> ClusterStatus:
        """Return the current tables."""
        now, wall = trio.current_time(), time.time()
        status = self.observed_state.status(
            self._state, now, wall, self._location, lambda one: self._clients.get(one, _UNKNOWN)
        )
        if self.launcher is None:
            return status
        return attrs.evolve(status, launched=self.launcher.nodes, scaling=self.launcher.explanation)

    def look(self, seen: int) -> tuple[ClusterStatus, Recent]:
        """Return the current tables and the coroutines that have ended since number `seen`."""
        return self.tables(), self.observed_state.history.after(seen)

    async def _asked(self, _link: Link, ask: messages.AskStatus) -> messages.StatusIs:
        recent = None if ask.seen is None else self.observed_state.history.after(ask.seen)
        return messages.StatusIs(status_as_json(self.tables()).encode(), recent)

    def load(self) -> ClusterLoad:
        """Return the work of the cluster."""
        return self.observed_state.load(self._state, time.time())

    def _demanded(self, link: Link, demand: messages.Demand) -> None:
        claim = self._state.claims.get(demand.computation)
        if claim is not None and claim.client_id == link.peer.process_id:
            self.observed_state.demanded(demand)

    def _skewed(self, link: Link, skew: messages.Skew) -> None:
        claim = self._state.claims.get(skew.computation)
        if claim is not None and claim.client_id == link.peer.process_id:
            self.observed_state.skewed(skew)

    def _started_there(self, link: Link, message: messages.StartedThere) -> None:
        claim, client_id = self._state.claims.get(message.computation), link.peer.process_id
        node = self._state.nodes.get(self.observed_state.node_of(message.server_id) or b"")
        if claim is not None and claim.client_id == client_id and node is not None and claim.computation in node.leases:
            self.observed_state.started_there(trio.current_time(), time.time(), client_id, message)

    # --- reports of nodes

    def _server_seen(self, link: Link, seen: messages.ServerSeen) -> None:
        if not self._may_report(link, seen.server_id, new=True):
            return
        self.observed_state.seen(trio.current_time(), link.peer.process_id, seen)
        self.publisher.tell(Status.ServerDiscovered, Location(seen.addr, seen.port))

    def _files_stay(self, link: Link, message: messages.FilesStay) -> None:
        if self._may_report(link, message.server_id):
            self.observed_state.files_stay(message)

    def _server_left(self, link: Link, left: messages.ServerLeft) -> None:
        if not self._may_report(link, left.server_id):
            return
        location = self.observed_state.left(time.time(), left)
        if location is not None:
            self.publisher.tell(Status.ServerClosed if left.wanted else Status.ServerDisconnected, location)

    def _reported(self, link: Link, report: messages.ServerReport) -> None:
        if self._may_report(link, report.server_id):
            self.observed_state.reported(trio.current_time(), report)

    def _may_report(self, link: Link, server_id: bytes, *, new: bool = False) -> bool:
        """Return whether a peer is the node of a server; with `new`, also of one that is not known yet."""
        node_id, known = link.peer.process_id, self.observed_state.node_of(server_id)
        return node_id in self._state.nodes and (known == node_id or (new and known is None))

    # --- events of the scheduler

    def node_pulsed(self, link: Link, pulse: messages.Pulse) -> list[tuple[bytes, messages.ServerBlocked]]:
        """Note a node's heartbeat; return the requests for what runs at its blocked servers, each with the client's id.

        A server that is blocked from the start of a coroutine cannot report it; the client knows it.
        """
        node = self._state.nodes.get(link.peer.process_id)
        if node is None:
            return []
        silent = self.observed_state.pulsed(trio.current_time(), link.peer.process_id, info(node.facts, pulse), pulse)
        claims = [claim for name in node.leases if (claim := self._state.claims.get(name)) is not None]
        return [
            (claim.client_id, messages.ServerBlocked(claim.computation, server_id))
            for server_id in silent
            for claim in claims
        ]

    def node_lost(self, node_id: bytes, reason: str) -> None:
        """Remove the servers of a node."""
        for location in self.observed_state.node_left(time.time(), node_id, reason):
            self.publisher.tell(Status.ServerDisconnected, location)

    def client_is(self, link: Link) -> None:
        """Note where a client listens."""
        self._clients[link.peer.process_id] = link.peer.location

    def turn(self, turn: TellTurn) -> None:
        """Publish that a computation runs now."""
        self.publisher.tell(Status.ComputationScheduled, self._clients.get(turn.client_id, _UNKNOWN))

    def over(self, over: ClaimOver) -> None:
        """Publish that a computation is over."""
        location = self._clients.get(over.client_id, _UNKNOWN)
        if not self._state.claims.of_client(over.client_id):
            self._clients.pop(over.client_id, None)
        self.observed_state.computation_over(over.computation)
        if over.ran:
            self.publisher.tell(Status.ComputationClosed, location)
