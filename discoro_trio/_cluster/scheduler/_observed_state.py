"""What the scheduler knows of servers and their coroutines, from the reports of nodes; pure bookkeeping.

Nothing is decided by it: reports come late, in batches, and as mere counts when somebody is slow. Nodes and
computations themselves are with `_scheduling`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from ..._process import Coro
from ..._records import MutableRecord
from ..._values import Location
from .._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._status import NodeInfo
    from .. import _messages as messages
    from ._claims import Claim
    from ._node_state import NodeState
    from ._scheduling import Scheduling


class _Server(MutableRecord, eq=False):
    """What is known of one server."""

    seen: messages.ServerSeen
    node_id: bytes
    since: float
    blocked_since: float | None = None
    computation: bytes = b""
    submitted: int = 0
    running: int = 0
    coroutines: dict[int, messages.RunningCoro] = msgspec.field(default_factory=dict)
    progress: dict[int, messages.CoroProgress] = msgspec.field(default_factory=dict)
    vitals: ServerVitals | None = None

    @property
    def location(self) -> Location:
        return Location(self.seen.addr, self.seen.port)

    @property
    def done(self) -> int:
        return self.submitted - self.running


class ObservedState:
    """The servers of a scheduler's nodes."""

    def __init__(self) -> None:
        self._servers: dict[bytes, _Server] = {}
        self._infos: dict[bytes, NodeInfo] = {}
        self._before: Counter[bytes] = Counter()  # by node: the coroutines of its servers that have ended

    def seen(self, now: float, node_id: bytes, seen: messages.ServerSeen) -> None:
        """A server listens."""
        self._servers[seen.server_id] = _Server(seen, node_id, now)

    def server_at(self, where: str) -> tuple[bytes, bytes] | None:
        """Give the ids of the node and of the server at a Location; None if there is none."""
        return next(
            ((one.node_id, server_id) for server_id, one in self._servers.items() if str(one.location) == where), None
        )

    def left(self, server_id: bytes) -> Location | None:
        """A server has ended; give where it was, if it was known."""
        server = self._servers.pop(server_id, None)
        if server is None:
            return None
        self._before[server.node_id] += server.submitted
        return server.location

    def node_left(self, node_id: bytes) -> list[Location]:
        """A node is gone; give where its servers were."""
        self._infos.pop(node_id, None)
        self._before.pop(node_id, None)
        gone = [server_id for server_id, server in self._servers.items() if server.node_id == node_id]
        return [self._servers.pop(server_id).location for server_id in gone]

    def pulsed(self, now: float, node_id: bytes, info: NodeInfo, pulse: messages.Pulse) -> None:
        """A node has told what it has, what its servers use, and which of them do not answer."""
        self._infos[node_id] = info
        for server_id, server in self._servers.items():
            if server.node_id == node_id:
                blocked = pulse.blocked.get(server_id)
                server.blocked_since = None if blocked is None else now - blocked
                if server_id in pulse.used:
                    pid, cpu_percent, memory = pulse.used[server_id]
                    server.vitals = ServerVitals(pid=pid, cpu_percent=cpu_percent, memory=memory)

    def reported(self, now: float, report: messages.ServerReport) -> None:
        """A server has told what runs there."""
        server = self._servers.get(report.server_id)
        if server is None:
            return
        server.since = now
        server.blocked_since = None  # or it could not have reported
        server.computation = report.computation
        server.submitted, server.running = report.submitted, report.running
        for serial in report.ended:
            server.coroutines.pop(serial, None)
            server.progress.pop(serial, None)
        server.coroutines.update({coro.serial: coro for coro in report.started})
        server.progress.update({one.serial: one for one in report.progress if one.serial in server.coroutines})

    def status(
        self, state: Scheduling, now: float, wall: float, here: Location, client_at: Callable[[bytes], Location]
    ) -> ClusterStatus:
        """Give the tables.

        Args:
            state: The nodes and computations.
            now: The time by Trio's clock.
            wall: The time in seconds since the epoch.
            here: Where the scheduler listens.
            client_at: Tells where a client listens.
        """
        claims = sorted(state.claims, key=lambda claim: not claim.running)
        places = iter(range(1, len(claims) + 1))
        return ClusterStatus(
            time=wall,
            scheduler=here,
            nodes=tuple(self._node(node, now) for node in state.nodes.values()),
            servers=tuple(self._tables(state, now, wall)),
            computations=tuple(
                _computation(claim, state, 0 if claim.running else next(places), client_at(claim.client_id))
                for claim in claims
            ),
        )

    def _tables(self, state: Scheduling, now: float, wall: float) -> Iterator[ServerStatus]:
        for server in self._servers.values():
            node = state.nodes.get(server.node_id)
            yield ServerStatus(
                location=server.location,
                name=server.seen.name,
                node=node.facts.addr if node is not None else "",
                node_id=server.node_id.hex(),
                computation=server.computation.hex(),
                submitted=server.submitted,
                done=server.done,
                running=server.running,
                coroutines=tuple(_coro(server, coro, wall) for coro in server.coroutines.values()),
                reported=now - server.since,
                unresponsive=0.0 if server.blocked_since is None else now - server.blocked_since,
                vitals=server.vitals,
            )

    def _node(self, node: NodeState, now: float) -> NodeStatus:
        facts = node.facts
        servers = [server for server in self._servers.values() if server.node_id == facts.node_id]
        before = self._before[facts.node_id]
        return NodeStatus(
            id=facts.node_id.hex(),
            addr=facts.addr,
            name=facts.name,
            location=Location(facts.addr, facts.port),
            platform=facts.platform,
            suspended=node.suspended,
            servers=facts.servers,
            free=node.left,
            submitted=before + sum(server.submitted for server in servers),
            done=before + sum(server.done for server in servers),
            running=sum(server.running for server in servers),
            silence=now - node.heard,
            info=self._infos.get(facts.node_id),
        )


def _computation(claim: Claim, state: Scheduling, place: int, client: Location) -> ComputationStatus:
    leases = [state.nodes[node_id].leases.get(claim.computation) for node_id in claim.nodes if node_id in state.nodes]
    return ComputationStatus(
        id=claim.computation.hex(),
        name=claim.name,
        client=client,
        state="detached" if claim.detached else "running" if claim.running else "waiting",
        place=place,
        nodes=len(claim.nodes),
        servers=sum(lease.servers for lease in leases if lease is not None),
        zombie_period=claim.zombie_period,
    )


def _coro(server: _Server, coro: messages.RunningCoro, wall: float) -> CoroStatus:
    progress = server.progress.get(coro.serial)
    handle: Coro[Any] = Coro(
        server.seen.server_id, coro.serial, coro.starter, server.computation, coro.name, server.location
    )
    return CoroStatus(
        coro=handle,
        name=coro.name,
        start_time=coro.since,
        age=max(wall - coro.since, 0.0),
        progress=None if progress is None else Progress(done=progress.done, total=progress.total, text=progress.text),
    )
