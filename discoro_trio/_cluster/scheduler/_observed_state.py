"""The observed state of servers and their coroutines, from the reports of nodes; pure bookkeeping.

No decision depends on it: reports come late, in batches, and as mere counts when a process is slow. The state of nodes
and computations is in `_scheduling`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from ..._process import Coro, EndedCoro
from ..._records import MutableRecord, Record
from ..._values import Location
from .. import _messages as messages
from .._history import EndRecord, FailureRecord, FinalCounts, History, LastLines
from .._status import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Progress, ServerStatus, ServerVitals
from ._waiting import QueuePlace, places, waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..._status import NodeInfo
    from ._claims import Claim
    from ._node_state import NodeState
    from ._scheduling import Scheduling


class _Server(MutableRecord, eq=False):
    """The observed state of one server."""

    seen: messages.ServerSeen
    node_id: bytes
    since: float
    blocked_since: float | None = None
    stack: list[str] = msgspec.field(default_factory=list)
    computation: bytes = b""
    submitted: int = 0
    failed: int = 0
    running: int = 0
    coroutines: dict[int, messages.RunningCoro] = msgspec.field(default_factory=dict)
    progress: dict[int, messages.CoroProgress] = msgspec.field(default_factory=dict)
    vitals: ServerVitals | None = None
    files: str = ""
    unreported: list[int] = msgspec.field(default_factory=list)
    """The coroutines that are known from the client only, as the server is blocked since before it reported them."""

    @property
    def location(self) -> Location:
        return Location(self.seen.addr, self.seen.port)

    @property
    def done(self) -> int:
        return self.submitted - self.running


class _Counts(MutableRecord):
    """Counts of a node's or a computation's coroutines at servers that are gone."""

    submitted: int = 0
    failed: int = 0


_NOTHING = _Counts()

_MOST_SKEW = 100
"""The most differences of versions that are kept for one computation."""


class NodeLoad(Record, frozen=True, kw_only=True):
    """What runs at a node."""

    servers: int
    busy: int
    """How many of its servers run coroutines, as reported; a blocked server counts, too."""
    used: int
    """How many of its servers have run coroutines. Between two jobs that block, a server reports none as running."""
    running: int
    """The number of coroutines that run there."""
    oldest: float
    """Seconds for which the oldest of them has run."""


class ClusterLoad(Record, frozen=True, kw_only=True):
    """The work of a cluster, for a launcher that adapts the number of nodes."""

    nodes: dict[Location, NodeLoad]
    """By the location of the node."""
    jobs: int
    """The jobs that clients have and that have not ended, waiting or running."""
    ended: int
    """The coroutines that have ended since the scheduler was opened."""
    servers: int
    """The number of servers that a computation waits for; 0 for none."""


class ObservedState:
    """The servers of a scheduler's nodes.

    Attributes:
        history: The coroutines that have ended.
    """

    def __init__(self) -> None:
        self.history: History = History()
        self._servers: dict[bytes, _Server] = {}
        self._infos: dict[bytes, NodeInfo] = {}
        # The counts of servers that are gone, by node and by computation.
        self._before: dict[bytes, _Counts] = {}
        self._over: set[bytes] = set()  # the computations that are over and have servers that have not ended
        self._demands: dict[bytes, messages.Demand] = {}
        self._skew: dict[bytes, tuple[str, ...]] = {}
        self._gone = 0  # the coroutines that were started at servers that have ended

    def seen(self, now: float, node_id: bytes, seen: messages.ServerSeen) -> None:
        """Note that a server listens."""
        self._servers[seen.server_id] = _Server(seen, node_id, now)

    def files_stay(self, message: messages.FilesStay) -> None:
        """Note the folder in which the files of a server stay."""
        server = self._servers.get(message.server_id)
        if server is not None:
            server.files = message.folder

    def server_at(self, where: str) -> tuple[bytes, bytes] | None:
        """Return the ids of the node and of the server at a Location; None if there is none."""
        return next(
            ((one.node_id, server_id) for server_id, one in self._servers.items() if str(one.location) == where), None
        )

    def coroutine(self, key: str) -> Coro[Any] | None:
        """Return the handle of a running coroutine, by its id; None if there is none."""
        home, _, serial = key.partition("-")
        try:
            server = self._servers.get(bytes.fromhex(home))
            coro = None if server is None else server.coroutines.get(int(serial, 16))
        except ValueError:
            return None
        return None if server is None or coro is None else _handle(server, coro)

    def node_of(self, server_id: bytes) -> bytes | None:
        """Return the id of a server's node; None if the server is not known."""
        server = self._servers.get(server_id)
        return None if server is None else server.node_id

    def left(self, wall: float, left: messages.ServerLeft) -> Location | None:
        """Note that a server ended, at `wall` seconds since the epoch; return its Location, if it was known."""
        server = self._servers.pop(left.server_id, None)
        if server is None:
            return None
        self._end(server, wall, "closed" if left.over else "lost", left.reason)
        return server.location

    def _end(self, server: _Server, wall: float, state: str, reason: str) -> None:
        """Note that a server's coroutines have ended with it, and add its counts to those of its node."""
        self._gone += server.submitted
        lost = server.running if state == "lost" else 0
        for owner in (server.node_id, server.computation):
            if owner:
                counts = self._before.setdefault(owner, _Counts())
                counts.submitted += server.submitted
                counts.failed += server.failed + lost
        for coro in server.coroutines.values():
            ended = EndedCoro(coro.serial, coro.name, coro.since, wall, state, reason)
            self._note(server, coro.starter, ended)
        if server.computation in self._over:
            self._finish(server.computation)

    def _note(self, server: _Server, starter: bytes, coro: EndedCoro) -> None:
        self.history.ended(EndRecord(server.seen.server_id, str(server.location), server.computation, starter, coro))

    def _finish(self, computation: bytes) -> None:
        """Note the final counts of a computation that is over, unless some of its servers have not ended."""
        if any(server.computation == computation for server in self._servers.values()):
            return
        counts = self._before.pop(computation, _NOTHING)
        self._over.discard(computation)
        self.history.over(FinalCounts(computation, counts.submitted, counts.failed))

    def computation_over(self, computation: bytes) -> None:
        """Drop what is known of a computation; its servers have not reported their last coroutines yet."""
        self._over.add(computation)
        self._finish(computation)
        self._demands.pop(computation, None)
        self._skew.pop(computation, None)

    def demanded(self, demand: messages.Demand) -> None:
        """Note how much work a computation has."""
        self._demands[demand.computation] = demand

    def skewed(self, skew: messages.Skew) -> None:
        """Note how nodes differ from the client of a computation."""
        self._skew[skew.computation] = tuple(skew.lines[:_MOST_SKEW])

    def load(self, state: Scheduling, wall: float) -> ClusterLoad:
        """Return the work of the cluster, at `wall` seconds since the epoch."""
        servers = self._by_owner()
        return ClusterLoad(
            nodes={
                Location(node.facts.addr, node.facts.port): _load(node, servers[node_id], wall)
                for node_id, node in state.nodes.items()
            },
            jobs=sum(demand.jobs for demand in self._demands.values()),
            ended=self._gone + sum(server.done for server in self._servers.values()),
            servers=max((demand.servers for demand in self._demands.values()), default=0),
        )

    def node_left(self, wall: float, node_id: bytes, reason: str) -> list[Location]:
        """Note that a node is gone; return the Locations of its servers."""
        self._infos.pop(node_id, None)
        gone = [server_id for server_id, server in self._servers.items() if server.node_id == node_id]
        servers = [self._servers.pop(server_id) for server_id in gone]
        for server in servers:
            self._end(server, wall, "lost", reason)
        self._before.pop(node_id, None)
        return [server.location for server in servers]

    def pulsed(self, now: float, node_id: bytes, info: NodeInfo, pulse: messages.Pulse) -> list[bytes]:
        """Note a heartbeat: the node's resources, and what its servers use; return the servers that do not answer."""
        self._infos[node_id] = info
        silent = []
        for server_id, server in self._servers.items():
            if server.node_id == node_id:
                blocked = pulse.blocked.get(server_id)
                server.blocked_since = None if blocked is None else now - blocked.seconds
                server.stack = [] if blocked is None else blocked.stack
                if blocked is None:
                    self._withdraw(server)
                else:
                    silent.append(server_id)
                if server_id in pulse.used:
                    pid, cpu_percent, memory = pulse.used[server_id]
                    server.vitals = ServerVitals(pid=pid, cpu_percent=cpu_percent, memory=memory)
        return silent

    def reported(self, now: float, report: messages.ServerReport) -> None:
        """Note a server's report of its coroutines."""
        server = self._servers.get(report.server_id)
        if server is None:
            return
        server.since = now
        server.blocked_since, server.stack = None, []  # a blocked server could not have reported
        server.computation = report.computation
        self._withdraw(server)
        self._apply(server, report.report)

    def started_there(self, now: float, wall: float, client_id: bytes, message: messages.StartedThere) -> None:
        """Note which coroutines a client has started at a blocked server, which could not report the last ones."""
        server = self._servers.get(message.server_id)
        if server is None or server.blocked_since is None or server.computation not in {b"", message.computation}:
            return
        self._withdraw(server)
        server.computation = message.computation
        since = wall - (now - server.blocked_since)
        for serial, (name, args) in message.started.items():
            if serial not in server.coroutines:
                server.coroutines[serial] = messages.RunningCoro(serial, name, since, client_id, args)
                server.unreported.append(serial)
            elif server.coroutines[serial].args is None:
                server.coroutines[serial] = msgspec.structs.replace(server.coroutines[serial], args=args)
        server.submitted += len(server.unreported)
        server.running += len(server.unreported)

    def _withdraw(self, server: _Server) -> None:
        """Forget the coroutines that the server itself has not reported."""
        for serial in server.unreported:
            self._forget(server, serial)
        server.submitted -= len(server.unreported)
        server.running -= len(server.unreported)
        server.unreported.clear()

    def _apply(self, server: _Server, report: messages.Report) -> None:
        server.submitted, server.failed, server.running = report.submitted, report.failed, report.running
        server.coroutines.update({coro.serial: coro for coro in report.started})
        for one in report.ended:
            coro = self._forget(server, one.serial)
            self._note(server, coro.starter if coro is not None else b"", one)
        for serial in report.gone:
            self._forget(server, serial)
        for group in report.failures:
            self.history.failed(FailureRecord(server.seen.server_id, str(server.location), server.computation, group))
        if report.lines:
            self.history.wrote(LastLines(server.seen.server_id, str(server.location), report.lines))
        server.progress.update({one.serial: one for one in report.progress if one.serial in server.coroutines})

    @staticmethod
    def _forget(server: _Server, serial: int) -> messages.RunningCoro | None:
        server.progress.pop(serial, None)
        return server.coroutines.pop(serial, None)

    def status(
        self, state: Scheduling, now: float, wall: float, here: Location, client_at: Callable[[bytes], Location]
    ) -> ClusterStatus:
        """Return the tables.

        Args:
            state: The nodes and computations.
            now: The time by Trio's clock.
            wall: The time in seconds since the epoch.
            here: Where the scheduler listens.
            client_at: Returns the Location at which a client listens.
        """
        found = places(state)
        servers = self._by_owner()
        # A server may be reported as ended after its computation was.
        for owner in self._before.keys() - {at.claim.computation for at in found} - state.nodes.keys() - self._over:
            del self._before[owner]
        return ClusterStatus(
            time=wall,
            scheduler=here,
            nodes=tuple(self._node(node, now, servers[node.facts.node_id]) for node in state.nodes.values()),
            servers=tuple(self._tables(state, now, wall)),
            computations=tuple(
                self._counted(
                    at.claim, state, servers[at.claim.computation], _computation(at, state, now, wall, client_at)
                )
                for at in found
            ),
        )

    def _by_owner(self) -> defaultdict[bytes, list[_Server]]:
        """Return the servers of each node and of each computation."""
        servers: defaultdict[bytes, list[_Server]] = defaultdict(list)
        for server in self._servers.values():
            servers[server.node_id].append(server)
            servers[server.computation].append(server)
        return servers

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
                failed=server.failed,
                running=server.running,
                coroutines=tuple(_coro(server, coro, wall) for coro in server.coroutines.values()),
                reported=now - server.since,
                unresponsive=0.0 if server.blocked_since is None else now - server.blocked_since,
                vitals=server.vitals,
                id=server.seen.server_id.hex(),
                stack=tuple(server.stack),
                files=server.files,
            )

    def _node(self, node: NodeState, now: float, servers: Sequence[_Server]) -> NodeStatus:
        facts = node.facts
        before = self._before.get(facts.node_id, _NOTHING)
        return NodeStatus(
            id=facts.node_id.hex(),
            addr=facts.addr,
            name=facts.name,
            location=Location(facts.addr, facts.port),
            platform=facts.platform,
            suspended=node.suspended,
            servers=facts.servers,
            free=node.left,
            submitted=before.submitted + sum(server.submitted for server in servers),
            done=before.submitted + sum(server.done for server in servers),
            failed=before.failed + sum(server.failed for server in servers),
            running=sum(server.running for server in servers),
            silence=now - node.heard,
            info=self._infos.get(facts.node_id),
        )

    def _counted(
        self, claim: Claim, state: Scheduling, servers: Sequence[_Server], told: ComputationStatus
    ) -> ComputationStatus:
        """Add the counts to the status of a computation."""
        nodes = [state.nodes[node_id] for node_id in claim.nodes if node_id in state.nodes]
        leases = [node.leases.get(claim.computation) for node in nodes]
        before = self._before.get(claim.computation, _NOTHING)
        return attrs.evolve(
            told,
            skew=self._skew.get(claim.computation, ()),
            servers=sum(lease.servers for lease in leases if lease is not None),
            submitted=before.submitted + sum(server.submitted for server in servers),
            done=before.submitted + sum(server.done for server in servers),
            failed=before.failed + sum(server.failed for server in servers),
            running=sum(server.running for server in servers),
        )


def _load(node: NodeState, servers: Sequence[_Server], wall: float) -> NodeLoad:
    begun = [coro.since for server in servers for coro in server.coroutines.values()]
    return NodeLoad(
        servers=node.facts.servers,
        busy=sum(1 for server in servers if server.running or server.blocked_since is not None),
        used=sum(1 for server in servers if server.submitted or server.blocked_since is not None),
        running=sum(server.running for server in servers),
        oldest=max(wall - min(begun), 0.0) if begun else 0.0,
    )


def _computation(
    at: QueuePlace, state: Scheduling, now: float, wall: float, client_at: Callable[[bytes], Location]
) -> ComputationStatus:
    """Return the status of a computation, without its servers and counts."""
    claim = at.claim
    return ComputationStatus(
        id=claim.computation.hex(),
        name=claim.terms.name,
        client=client_at(claim.client_id),
        state="detached" if claim.detached else "running" if claim.running else "waiting",
        place=at.place,
        nodes=len(claim.nodes),
        servers=0,
        zombie_period=claim.terms.zombie_period,
        owner=claim.owner,
        why=waits_for(at, state, now),
        queued=None if claim.queued_at is None else wall - (now - claim.queued_at),
        began=None if claim.began_at is None else wall - (now - claim.began_at),
    )


def _handle(server: _Server, coro: messages.RunningCoro) -> Coro[Any]:
    return Coro(server.seen.server_id, coro.serial, coro.starter, server.computation, coro.name, server.location)


def _coro(server: _Server, coro: messages.RunningCoro, wall: float) -> CoroStatus:
    progress = server.progress.get(coro.serial)
    return CoroStatus(
        coro=_handle(server, coro),
        name=coro.name,
        start_time=coro.since,
        age=max(wall - coro.since, 0.0),
        args=coro.args,
        progress=None if progress is None else Progress(done=progress.done, total=progress.total, text=progress.text),
    )
