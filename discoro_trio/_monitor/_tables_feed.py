"""Turns the tables of a scheduler or a computation into facts of the monitor's model.

Tables say how things stand; what became of a coroutine that is in them no more, they do not. Synchronous: when they
are asked for is with `_source`, and what a computation's own records add is with `_journal_feed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._rows import CoroutineRow, Counts
from ._topology_rows import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._cluster import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, ServerStatus
    from ._feed import Feed
    from ._model import Model

_STATES = {"waiting": "queued", "running": "running", "detached": "detached"}


class TablesFeed:
    """Applies tables, one after the other.

    Args:
        model: What they change.
        feed: What knows how to take a node's vital figures.
    """

    def __init__(self, model: Model, feed: Feed) -> None:
        self._model = model
        self._feed = feed
        self._counted: dict[str, tuple[int, int]] = {}
        self._nodes: dict[str, str] = {}

    def apply(self, status: ClusterStatus) -> None:
        """Take a scheduler's tables: they are all that is known of the cluster."""
        self.nodes(status.nodes)
        self.servers(status.servers)
        for server in status.servers:
            self._vitals(server)
            self._coroutines(server, status.time)
        self.computations(status.computations, status.time)

    def beside(self, status: ClusterStatus) -> None:
        """Take of a scheduler's tables what a computation does not know itself: loads, progress, the queue."""
        self.nodes(status.nodes)
        for server in status.servers:
            known = self._model.servers.get(str(server.location))
            if known is not None and known.state not in GONE:
                # For whom it works, its computation knows first; its coroutines would count for nobody meanwhile.
                self._standing(server, known.computation or server.computation)
                self._vitals(server)
                self._progress(server)
        self.computations(status.computations, status.time)

    # --- nodes

    def nodes(self, nodes: Iterable[NodeStatus]) -> None:
        """Take what is said of nodes; those that are not in it any more are gone."""
        before, self._nodes = self._nodes, {}
        for node in nodes:
            key = self._nodes[node.id] = str(node.location)
            self._model.locate_node(node.addr, key)
            self._model.node(key, name=node.name, state="suspended" if node.suspended else "ready")
            if node.platform:
                self._model.node(key, platform=node.platform)
            if node.info is not None:
                self._feed.node_info(key, node.info)
        for key in set(before.values()) - set(self._nodes.values()):
            if self._model.nodes[key].state not in GONE:
                self._model.node_left(key, "disconnected")

    # --- servers

    def servers(self, servers: Iterable[ServerStatus]) -> None:
        """Take how servers stand; those that are not in it any more are closed."""
        here = set()
        for server in servers:
            here.add(str(server.location))
            self.server(server)
        for key in self._counted.keys() - here:
            self.server_left(key)

    def server(self, server: ServerStatus) -> None:
        """Take how a server stands."""
        self._standing(server, server.computation)
        self.count(server)

    def own_server(self, server: ServerStatus, *, alone: bool) -> None:
        """Take how a server stands for its computation, of which a scheduler knows more unless it tells alone."""
        known = self._model.servers.get(str(server.location))
        if alone or known is None or known.state in GONE:
            self._standing(server, server.computation)
        self.count(server)

    def count(self, server: ServerStatus) -> None:
        """Take a server's counts."""
        key = str(server.location)
        submitted, done = self._counted.get(key, (0, 0))
        if server.submitted < submitted or server.done < done:
            submitted = done = 0  # a fresh process in the old one's place
            self._model.servers[key].counts = Counts()
        if (server.submitted, server.done) != (submitted, done):
            self._model.counted(key, server.submitted - submitted, server.done - done)
        self._counted[key] = (server.submitted, server.done)

    def server_left(self, key: str, state: str = "closed") -> None:
        """Take the word that a server is no more."""
        self._model.server_left(key, state)
        self._counted.pop(key, None)

    def _standing(self, server: ServerStatus, computation: str) -> None:
        node = self._nodes.get(server.node_id, server.node)
        state = "unresponsive" if server.unresponsive else "ready"
        self._model.server(str(server.location), node, name=server.name, state=state, computation=computation)

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
        for coroutine in [one for one in model.servers[key].running if one not in here]:
            model.finished(coroutine, "ended", now, count=False)
        for coroutine_key, one in here.items():
            if coroutine_key not in model.running:
                model.created(_coroutine(coroutine_key, one, key, server.computation), count=False)
        self._progress(server)

    def _progress(self, server: ServerStatus) -> None:
        for one in server.coroutines:
            if one.progress is not None:
                self._model.progress(one.coro.id, one.progress.done, one.progress.total, one.progress.text)

    # --- computations

    def computations(self, computations: Iterable[ComputationStatus], now: float) -> None:
        """Take what is said of computations; those that are not in it any more are over."""
        model = self._model
        here = set()
        for one in computations:
            here.add(one.id)
            state = _STATES.get(one.state, one.state)
            known = model.computation(one.id, name=one.name, owner=str(one.client), state=state, lease=one.servers)
            if known.submitted is None:
                known.submitted = now
            if known.begin is None and state != "queued":
                known.begin = now
        for over in model.computations.values():
            if over.key not in here and over.state != "closed":
                model.computation(over.key, state="closed", end=now, lease=0)


def _coroutine(key: str, one: CoroStatus, server: str, computation: str) -> CoroutineRow:
    return CoroutineRow(key, one.name, server, one.start_time, computation=computation, handle=one.coro)
