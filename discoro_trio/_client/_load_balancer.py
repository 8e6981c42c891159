"""Where the next coroutine goes: the least loaded server of the least loaded node.

This module owns the loads, without any I/O. Load is the number of coroutines that were started and have not ended.
Picking and counting take the same time for any number of servers.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

import msgspec

from .._records import MutableRecord


class _RankedNodes:
    """Nodes with loads, the least loaded one first; of equals, the one that has its load for the longest.

    Nodes of one load are together, in the order in which they came to it; a heap holds the loads that there are.
    They are few: so a change and a look take the same time for ten things and for ten thousand.
    """

    def __init__(self) -> None:
        self._loads: dict[bytes, float] = {}
        # A plain dict would search from its start for the first one that was not deleted.
        self._levels: dict[float, OrderedDict[bytes, None]] = {}
        self._heap: list[float] = []

    def set(self, node: bytes, load: float) -> None:
        """Set the load of a node, which may be new."""
        old = self._loads.get(node)
        if old is not None:
            del self._levels[old][node]
        self._loads[node] = load
        level = self._levels.get(load)
        if level is None:
            level = self._levels[load] = OrderedDict()
            heapq.heappush(self._heap, load)
        level[node] = None

    def remove(self, node: bytes) -> None:
        """Forget a node."""
        del self._levels[self._loads.pop(node)][node]

    def least(self) -> bytes | None:
        """Give the node with the least load; None if there is none."""
        while self._heap:
            level = self._levels[self._heap[0]]
            if level:
                return next(iter(level))
            del self._levels[heapq.heappop(self._heap)]
        return None


_MOST_EMPTY = 64
"""Levels without a server that are kept."""


class _NodeLoads(MutableRecord):
    """The loads of one node's servers: whole numbers, so that the least one is found without a heap.

    As with nodes, servers of one load are together.
    """

    node: bytes
    loads: dict[bytes, int] = msgspec.field(default_factory=dict)
    total: int = 0
    _levels: dict[int, OrderedDict[bytes, None]] = msgspec.field(default_factory=dict)
    _low: int = 0
    """No server has less."""

    def change(self, server: bytes, by: int) -> None:
        """Add to the load of a server."""
        loads, levels = self.loads, self._levels
        load = loads[server]
        del levels[load][server]
        self.total += by
        loads[server] = load = load + by
        level = levels.get(load)
        if level is None:
            level = self._new_level(load)
        level[server] = None
        if load < self._low:  # noqa: PLR1730 - `min` takes longer, and this is done twice for each job
            self._low = load

    def add(self, server: bytes) -> None:
        """Add a server without load."""
        self.remove(server)
        self.loads[server] = 0
        self._levels.setdefault(0, OrderedDict())[server] = None
        self._low = 0

    def remove(self, server: bytes) -> None:
        """Remove a server with its load, if it is there."""
        load = self.loads.pop(server, None)
        if load is not None:
            del self._levels[load][server]
            self.total -= load

    def least(self) -> bytes | None:
        """Give the server with the least load; None if there is none."""
        if not self.loads:
            return None
        levels = self._levels
        level = levels.get(self._low)
        while not level:
            self._low += 1
            level = levels.get(self._low)
        return next(iter(level))

    def _new_level(self, load: int) -> OrderedDict[bytes, None]:
        # Loads go up and down by one, so a level that is empty now is soon wanted again.
        if len(self._levels) > _MOST_EMPTY + 2 * len(self.loads):
            self._levels = {kept: level for kept, level in self._levels.items() if level}
        level = self._levels[load] = OrderedDict()
        return level


_FEWEST_RANKED = 2
"""With fewer nodes than that there is nothing to choose between, and a change need not keep their order."""


class LoadBalancer:
    """The loads of all servers, by the ids of node and server.

    Attributes:
        suspended: The nodes that are given no more load.
    """

    def __init__(self) -> None:
        self.suspended: set[bytes] = set()
        self._nodes: dict[bytes, _NodeLoads] = {}
        self._by_load = _RankedNodes()
        self._at: dict[bytes, _NodeLoads] = {}

    def add(self, node: bytes, server: bytes) -> None:
        """Add a server without load."""
        loads = self._nodes.get(node)
        if loads is None:
            loads = self._nodes[node] = _NodeLoads(node)
        loads.add(server)
        self._at[server] = loads
        self._rank(loads)
        if len(self._nodes) == _FEWEST_RANKED:
            for other in self._nodes.values():
                self._rank(other)

    def remove(self, server: bytes) -> None:
        """Remove a server with its load."""
        loads = self._at.pop(server, None)
        if loads is None:
            return
        loads.remove(server)
        if loads.loads:
            self._rank(loads)
        else:
            del self._nodes[loads.node]
            if loads.node not in self.suspended:
                self._by_load.remove(loads.node)

    def change(self, server: bytes, by: int) -> None:
        """Add to the load of a server; nothing if it is gone."""
        loads = self._at.get(server)
        if loads is None:
            return
        loads.change(server, by)
        if len(self._nodes) >= _FEWEST_RANKED:
            self._rank(loads)

    def _rank(self, loads: _NodeLoads) -> None:
        if loads.node not in self.suspended:
            self._by_load.set(loads.node, loads.total / len(loads.loads))

    def suspend(self, node: bytes) -> None:
        """Give a node no more load, whatever servers it has or gets."""
        if node not in self.suspended:
            self.suspended.add(node)
            if node in self._nodes:
                self._by_load.remove(node)

    def resume(self, node: bytes) -> None:
        """Give a node load again."""
        self.suspended.discard(node)
        loads = self._nodes.get(node)
        if loads is not None:
            self._rank(loads)

    def least(self, node: bytes | None = None) -> bytes | None:
        """Give the least loaded server of a node, or of the least loaded node; None if there is none."""
        where = node
        if node is None:
            where = self._by_load.least() if len(self._nodes) >= _FEWEST_RANKED else next(iter(self._nodes), None)
        loads = self._nodes.get(where) if where is not None and where not in self.suspended else None
        return loads.least() if loads is not None else None

    def takes(self, server: bytes) -> bool:
        """Tell whether a server is there and takes load."""
        loads = self._at.get(server)
        return loads is not None and loads.node not in self.suspended

    def load(self, server: bytes) -> float:
        """Give the load of a server."""
        return self._at[server].loads[server]

    def nodes(self) -> list[bytes]:
        """Give the nodes that have servers."""
        return list(self._nodes)

    def servers(self, node: bytes | None = None) -> list[bytes]:
        """Give the servers of a node, or all."""
        if node is None:
            return list(self._at)
        loads = self._nodes.get(node)
        return list(loads.loads) if loads is not None else []

    def total(self) -> float:
        """Give the load of all servers together."""
        return sum(loads.total for loads in self._nodes.values())
