"""Turns the tables of a scheduler or a computation into facts of the monitor's model.

Tables have the present state; they do not have the outcome of a coroutine that is no longer listed. Synchronous:
`_source` decides when tables are fetched; `_journal_feed` adds a computation's own records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._rows import CoroCounts, CoroutineRow
from ._topology_rows import GONE
from ._verdict import blocked_in, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._cluster import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Recent, ServerStatus
    from .._process import OutputLine
    from ._feed import Feed
    from ._model import Model
    from ._rows import ComputationRow

MOST_GROUPS = 10_000
"""The most kinds of failures, of each server, that ended coroutines are assigned to."""

_STATES = {"waiting": "queued", "running": "running", "detached": "detached"}

_NONE = (0, 0, 0)

SETTLING = 60.0
"""Seconds after a restart of the scheduler in which nodes and clients come back to it."""


class TablesFeed:
    """Applies tables, one after the other.

    Args:
        model: The model to change.
        feed: Applies a node's load figures.

    Attributes:
        servers: The ids of the servers in a scheduler's last tables, by Location as text.
        last_lines: The numbers of the last lines of output that are known, by the id of the server.
    """

    def __init__(self, model: Model, feed: Feed) -> None:
        self._model = model
        self._feed = feed
        self._counted: dict[str, tuple[int, int]] = {}
        self._nodes: dict[str, str] = {}
        self.servers: dict[str, str] = {}
        # From a scheduler's tables: the counts so far, by id, and the keys of failures.
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._groups: dict[tuple[bytes, int], str] = {}
        self.last_lines: dict[bytes, int] = {}
        self._begun = False
        self._number = 0  # of the last entry in the scheduler's history
        self._origin: bytes | None = None  # of that history
        self._settled = 0.0  # when all have come back to a restarted scheduler, in seconds since the epoch
        self._missing: set[str] = set()  # the ids of nodes, servers and computations that have not come back to it yet
        self._owners: dict[str, tuple[str, str]] = {}  # the ids of each server's node and computation
        # What it cannot count, by the id of node or computation: coroutines at servers that had ended before it began.
        self._earlier: dict[str, tuple[int, ...]] = {}
        self._taken_back: dict[str, str] = {}

    def apply(self, status: ClusterStatus, recent: Recent | None = None) -> None:
        """Apply a scheduler's tables, and what has ended since the last ones; there is no other source."""
        self.launcher(status)
        self._note_restart(recent, status.time)
        self.nodes(status.nodes, status.time)
        for node in status.nodes:
            self._count_node(node, status.time)
        here = {str(server.location): server.id for server in status.servers}
        self._missing.difference_update(here.values())
        for server in status.servers:
            self._standing(server, server.computation, status.time)
            self._vitals(server)
            key = str(server.location)
            if self.servers.get(key, server.id) != server.id:  # another process has taken its place
                self._model.servers[key].counts = CoroCounts()
            self._model.servers[key].counts.add(*self._more(server, server.id, status.time))
        if recent is not None:
            self.ended(recent)
        for server in status.servers:
            self._coroutines(server, status.time)
        waits = {where: one for where, one in self.servers.items() if self._waits_for(one, status.time)}
        here = {**waits, **here}
        for gone in self.servers.keys() - here.keys():
            self._model.server_gone(gone, "closed", status.time)
        for over in set(self.servers.values()) - set(here.values()):
            self._seen.pop(over, None)
            self._owners.pop(over, None)
            self.last_lines.pop(bytes.fromhex(over), None)
        self.servers = here
        self._owners.update({server.id: (server.node_id, server.computation) for server in status.servers})
        self.computations(status.computations, status.time, first=not self._begun)
        for computation in status.computations:
            self._model.computations[computation.id].counts.add(*self._more(computation, computation.id, status.time))
        if recent is not None:
            self._final(recent, status.time)
        self._model.forget_predecessors()
        if not self._begun:
            self._model.begin_rate()
        self._begun = self._begun or recent is None or recent.whole

    def beside(self, status: ClusterStatus, recent: Recent | None = None) -> None:
        """Apply the parts of a scheduler's tables that a computation lacks: loads, progress, the queue."""
        self.launcher(status)
        self._note_restart(recent, status.time)
        self.nodes(status.nodes, status.time)
        for server in status.servers:
            known = self._model.servers.get(str(server.location))
            if known is not None and known.state not in GONE:
                # The computation has the assignment first; without it, coroutines would not be counted meanwhile.
                self._standing(server, known.computation or server.computation, status.time)
                self._vitals(server)
                self._progress(server)
        self.computations(status.computations, status.time)
        if recent is not None:
            self._failures(recent)
        self._model.forget_predecessors()
        self._begun = True

    def _note_restart(self, recent: Recent | None, now: float) -> None:
        """Note whether the scheduler was restarted: then what its tables lack is not gone, but has to come back."""
        if recent is not None:
            if recent.last < self._number or self._origin not in {None, recent.origin}:
                self._settled = now + SETTLING
                present = [one.key for one in self._model.computations.values() if one.state != "closed"]
                owners = {*self._nodes, *present}
                self._missing = owners.union(self.servers.values())
                self._earlier = {one: self._count_of_ended(one) for one in owners if one in self._seen}
                self._log(now, "warn", "The scheduler was restarted")
            self._number, self._origin = recent.last, recent.origin

    def _waits_for(self, what: str, now: float) -> bool:
        """Return whether a node, server or computation that the tables lack still has to come back to a scheduler."""
        return now < self._settled and what in self._missing

    def _count_of_ended(self, owner: str) -> tuple[int, ...]:
        """Return the counts of a node or computation without those of its present servers."""
        here = [self._seen.get(server, _NONE) for server, owners in self._owners.items() if owner in owners]
        return tuple(whole - sum(parts) for whole, *parts in zip(self._seen[owner], *here, strict=True))

    # --- ended coroutines

    def ended(self, recent: Recent) -> None:
        """Apply ended coroutines; the tables count them."""
        model = self._model
        for one in recent.ended:
            coro = one.coro
            if one.key not in model.running:
                made = CoroutineRow(one.key, coro.name, one.server, coro.since, computation=one.computation.hex())
                model.created(made, count=False)
            model.finished(one.key, coro.state, coro.at, coro.error, count=False)
            known = model.over.get(one.key)
            if known is not None:
                known.described = coro.args or known.described
        self._failures(recent)
        for server in recent.lines:
            self.lines(server.server_id, server.server, server.lines)

    def location_of(self, server_id: bytes) -> str:
        """Return a server's Location as text; empty if the server is gone."""
        return next((where for where, one in self.servers.items() if one == server_id.hex()), "")

    def lines(self, server_id: bytes, server: str, lines: Iterable[OutputLine]) -> None:
        """Add lines of output, except known ones."""
        for line in lines:
            if line.number > self.last_lines.get(server_id, 0):
                self.last_lines[server_id] = line.number
                key = f"{server_id.hex()}-{line.serial:x}" if line.serial else ""
                self._model.output(line.at, server, line.level, line.text, coro=line.coro, key=key)

    def _failures(self, recent: Recent) -> None:
        for one in recent.failures:
            group = one.group
            key = f"{one.computation.hex()} {group.name} {group.kind} {group.place}"
            self._groups[one.server_id, group.number] = key
            if len(self._groups) > MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
            facts = {"trace": group.trace} if group.trace else {}
            if key not in self._model.failures:
                text = f"{group.name} failed: {group.error}"
                self._log(group.at, "bad", text, view="function", key=group.name)
            self._model.failed(
                key,
                f"{one.server} {one.server_id.hex()}",
                group.count,
                computation=one.computation.hex(),
                name=group.name,
                kind=group.kind,
                place=group.place,
                error=group.error,
                at=group.at,
                **facts,
            )
        for ended in recent.ended:
            known = self._model.over.get(ended.key)
            if known is not None and ended.coro.group:
                known.group = self._groups.get((ended.server_id, ended.coro.group), "")

    def _log(self, at: float, level: str, text: str, **link: str) -> None:
        """Note an event; facts that precede the first look are no events."""
        if self._begun:
            self._model.log.add(at, level, text, **link)

    # --- counts

    def _more(self, row: NodeStatus | ServerStatus | ComputationStatus, key: str, now: float) -> tuple[int, int, int]:
        """Return how many more there are than before."""
        before, earlier = self._seen.get(key, _NONE), self._earlier.get(key, _NONE)
        counts = (row.submitted + earlier[0], row.done + earlier[1], row.failed + earlier[2])
        if now < self._settled and counts < before:
            return _NONE  # its servers have not reported to the restarted scheduler yet
        self._seen[key] = counts
        return counts[0] - before[0], counts[1] - before[1], counts[2] - before[2]

    def _unfinished(self, key: str) -> int:
        """Drop the counts, and return how many coroutines had not ended."""
        submitted, done, _failed = self._seen.pop(key, _NONE)
        self._earlier.pop(key, None)
        return submitted - done

    def _count_node(self, node: NodeStatus, now: float) -> None:
        more = self._more(node, node.id, now)
        self._model.nodes[str(node.location)].counts.add(*more)
        self._model.totals.counts.add(*more)
        self._model.changed()

    # --- nodes

    def launcher(self, status: ClusterStatus) -> None:
        """Note which nodes the launcher takes back, and how it decides their number."""
        self._taken_back = {str(one.location): one.reason for one in status.launched if one.taken_back}
        if status.scaling != self._model.scaling:
            self._model.scaling = status.scaling
            self._model.changed()

    def nodes(self, nodes: Iterable[NodeStatus], now: float) -> None:
        """Apply the table of nodes at a time; nodes that are no longer in it are gone."""
        before, self._nodes = self._nodes, {}
        for node in nodes:
            key = self._nodes[node.id] = str(node.location)
            self._model.locate_node(node.addr, key)
            known = self._model.nodes.get(key)
            if known is None or known.state in GONE:
                self._log(now, "", f"Node {node.name or key} joined with {node.servers} servers", view="node", key=key)
            self._model.node(key, name=node.name, state="suspended" if node.suspended else "ready")
            if node.platform:
                self._model.node(key, platform=node.platform)
            if node.info is not None:
                self._feed.node_info(key, node.info)
        self._missing.difference_update(self._nodes)
        self._nodes = {**{one: key for one, key in before.items() if self._waits_for(one, now)}, **self._nodes}
        for node_id in before.keys() - self._nodes.keys():
            lost = self._unfinished(node_id)
            self._model.nodes[before[node_id]].counts.add(0, lost, lost)
            self._model.totals.counts.add(0, lost, lost)
        for key in set(before.values()) - set(self._nodes.values()):
            node_row = self._model.nodes[key]
            if node_row.state in GONE:
                continue
            node_row.left = now
            name, reason = node_row.name or key, self._taken_back.get(key)
            if reason is None:
                self._model.node_left(key, "disconnected")
                self._log(now, "bad", f"Node {name} is gone", view="node", key=key)
            else:
                self._model.node_left(key, "closed")
                self._log(now, "", f"Node {name} has ended: {reason}", view="node", key=key)

    # --- servers

    def own_server(self, server: ServerStatus, now: float, *, alone: bool) -> None:
        """Apply a server's counts, and its state unless a scheduler's tables supply that (not `alone`)."""
        known = self._model.servers.get(str(server.location))
        if alone or known is None or known.state in GONE:
            self._standing(server, server.computation, now)
        self.count(server)

    def count(self, server: ServerStatus) -> None:
        """Apply a server's counts."""
        key = str(server.location)
        submitted, done = self._counted.get(key, (0, 0))
        if server.submitted < submitted or server.done < done:
            submitted = done = 0  # a fresh process in place of the old one
            self._model.servers[key].counts = CoroCounts()
        if (server.submitted, server.done) != (submitted, done):
            self._model.counted(key, server.submitted - submitted, server.done - done)
        self._counted[key] = (server.submitted, server.done)

    def server_left(self, key: str, state: str = "closed") -> None:
        """Apply a report that a server has ended."""
        self._model.server_left(key, state)
        self._counted.pop(key, None)

    def _standing(self, server: ServerStatus, computation: str, now: float) -> None:
        node = self._nodes.get(server.node_id, server.node)
        state = "unresponsive" if server.unresponsive else "ready"
        key = str(server.location)
        before = self._model.servers.get(key)
        was = "" if before is None else before.state
        since = now - server.unresponsive if server.unresponsive else None
        if since is not None and before is not None and before.blocked_since is not None:
            since = min(since, before.blocked_since)
        row = self._model.server(
            key,
            node,
            name=server.name,
            state=state,
            computation=computation,
            blocked_since=since,
            stack=server.stack,
        )
        if state == was:
            return
        if state == "unresponsive":
            where = f" in {blocked_in(row)}" if server.stack else ""
            self._log(now, "bad", f"{title(row)} is blocked{where}", view="server", key=key)
        elif was == "unresponsive":
            self._log(now, "good", f"{title(row)} answers again", view="server", key=key)

    def _vitals(self, server: ServerStatus) -> None:
        vitals = server.vitals
        if vitals is not None:
            node = self._nodes.get(server.node_id, server.node)
            facts = {"pid": vitals.pid, "cpu": vitals.cpu_percent, "memory": vitals.memory}
            self._model.server(str(server.location), node, **facts)

    # --- coroutines

    def _coroutines(self, server: ServerStatus, now: float) -> None:
        model, key = self._model, str(server.location)
        here = {one.coro.id: one for one in server.coroutines}
        if server.submitted or now >= self._settled:  # it has reported to this scheduler
            for coroutine in [one for one in model.servers[key].running if one not in here]:
                model.finished(coroutine, "ended", now, count=False)
        for coroutine_key, one in here.items():
            known = model.running.get(coroutine_key)
            if known is None:
                model.created(_coroutine(coroutine_key, one, key, server.computation), count=False)
            elif known.described is None and one.args is not None:
                known.described = one.args
                model.changed()
        self._progress(server)

    def _progress(self, server: ServerStatus) -> None:
        for one in server.coroutines:
            if one.progress is not None:
                self._model.progress(one.coro.id, one.progress.done, one.progress.total, one.progress.text)

    # --- computations

    def computations(self, computations: Iterable[ComputationStatus], now: float, *, first: bool = False) -> None:
        """Apply the table of computations; those that are no longer in it are over.

        Args:
            computations: The table.
            now: Its time.
            first: Whether this is a scheduler's first table, so that computations may have begun earlier.
        """
        model = self._model
        here = set()
        for one in computations:
            here.add(one.id)
            self._missing.discard(one.id)
            state = _STATES.get(one.state, one.state)
            before = model.computations.get(one.id)
            begins = state != "queued" and (before is None or before.state == "queued")
            known = model.computation(
                one.id,
                name=one.name,
                owner=_owner(one),
                client=str(one.client),
                state=state,
                lease=one.servers,
                place=one.place,
                why=one.why,
                skew=one.skew,
            )
            if known.submitted is None:
                known.submitted = now if one.queued is None else one.queued
            if begins:
                known.begin = one.began or (None if first else now)
                name = f"Computation {_name(known)} of {known.owner}"
                self._log(now, "", f"{name} began", view="computations")
        for over in model.computations.values():
            if over.key not in here and over.state != "closed" and not self._waits_for(over.key, now):
                over.counts.add(0, self._unfinished(over.key), 0)
                model.computation(over.key, state="closed", end=now, lease=0, place=0, why="")

    def _final(self, recent: Recent, now: float) -> None:
        """Apply the counts of computations that are over; their servers report the last ends after that."""
        for over in recent.over:
            known = self._model.computations.get(over.computation.hex())
            if known is None:
                continue
            if known.counts.done <= over.ended:  # a restarted scheduler lacks earlier ones
                known.counts = CoroCounts(over.ended, over.ended, over.failed)
                self._model.changed()
            ended = f"{known.counts.done:,} coroutines ended, {known.counts.failed:,} failed"
            self._log(now, "", f"Computation {_name(known)} of {known.owner} is over: {ended}", view="computations")


def _owner(one: ComputationStatus) -> str:
    """Return the owner of a computation: user, host and program, or the client's address."""
    return one.owner or str(one.client)


def _name(one: ComputationRow) -> str:
    return one.name or one.key[:8]


def _coroutine(key: str, one: CoroStatus, server: str, computation: str) -> CoroutineRow:
    return CoroutineRow(
        key, one.name, server, one.start_time, computation=computation, described=one.args, handle=one.coro
    )
