"""Turns the tables of a scheduler or a computation into facts of the monitor's model.

Tables say how things stand; what became of a coroutine that is in them no more, they do not. Synchronous: when they
are asked for is with `_source`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._feed import GONE
from ._rows import Coroutine, Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..cluster import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, ServerStatus
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
        self._nodes: set[str] = set()

    def apply(self, status: ClusterStatus) -> None:
        """Take a scheduler's tables: they are all that is known of the cluster."""
        self.nodes(status.nodes)
        servers = {str(server.location) for server in status.servers}
        for server in status.servers:
            self._server(server)
            self._coroutines(server, status.time)
        for key in self._counted.keys() - servers:
            self._model.server_left(key, "closed")
            del self._counted[key]
        self.computations(status.computations, status.time)

    def nodes(self, nodes: Iterable[NodeStatus]) -> None:
        """Take what is said of nodes, and nothing else."""
        here = set()
        for node in nodes:
            here.add(node.addr)
            known = self._model.nodes.get(node.addr)
            suspended = known is not None and known.state == "suspended"
            self._model.node(node.addr, name=node.name, state="suspended" if suspended else "ready")
            if node.platform:
                self._model.node(node.addr, platform=node.platform)
            if node.info is not None:
                self._feed.node_info(node.info)
        for addr in self._nodes - here:
            if self._model.nodes[addr].state not in GONE:
                self._model.node_left(addr, "disconnected")
        self._nodes = here

    def beside(self, status: ClusterStatus) -> None:
        """Take a scheduler's tables where a computation's events tell of coroutines: names, loads, progress."""
        self.nodes(status.nodes)
        for server in status.servers:
            if str(server.location) in self._model.servers:
                facts = {"name": server.name, "computation": server.computation}
                self._model.server(str(server.location), server.node, **facts)
                self._progress(server)
        self.computations(status.computations, status.time)

    def begin(self, status: ClusterStatus) -> None:
        """Take a computation's own tables as the state that events then change."""
        self.nodes(status.nodes)
        for server in status.servers:
            self._server(server)
        self.computations(status.computations, status.time)

    def _server(self, server: ServerStatus) -> None:
        key = str(server.location)
        self._model.server(key, server.node, name=server.name, state="ready", computation=server.computation)
        submitted, done = self._counted.get(key, (0, 0))
        if server.submitted < submitted or server.done < done:
            submitted = done = 0  # a fresh process in the old one's place
            self._model.servers[key].counts = Counts()
        if (server.submitted, server.done) != (submitted, done):
            self._model.counted(key, server.submitted - submitted, server.done - done)
        self._counted[key] = (server.submitted, server.done)

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


def _coroutine(key: str, one: CoroStatus, server: str, computation: str) -> Coroutine:
    return Coroutine(key, one.name, server, one.start_time, computation=computation, handle=one.coro)
