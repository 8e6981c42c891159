"""Where the next coroutine goes: the least loaded server of the least loaded node.

This module owns the loads, without any I/O. Load is the number of coroutines that were started and have not ended.
Picking and counting take the same time for any number of servers.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Generic, TypeVar

import attrs

K = TypeVar("K")


class _Loads(Generic[K]):
    """Things with loads, the least loaded one first; of equals, the one that has its load for the longest.

    Things of one load are together, in the order in which they came to it; a heap holds the loads that there are.
    They are few: so a change and a look take the same time for ten things and for ten thousand.
    """

    def __init__(self) -> None:
        self.loads: dict[K, float] = {}
        # A plain dict would search from its start for the first one that was not deleted.
        self._levels: dict[float, OrderedDict[K, None]] = {}
        self._heap: list[float] = []

    def set(self, key: K, load: float) -> None:
        """Set the load of a thing, which may be new."""
        old = self.loads.get(key)
        if old is not None:
            del self._levels[old][key]
        self.loads[key] = load
        level = self._levels.get(load)
        if level is None:
            level = self._levels[load] = OrderedDict()
            heapq.heappush(self._heap, load)
        level[key] = None

    def remove(self, key: K) -> None:
        """Forget a thing."""
        del self._levels[self.loads.pop(key)][key]

    def least(self) -> K | None:
        """Give the thing with the least load; None if there is none."""
        while self._heap:
            level = self._levels[self._heap[0]]
            if level:
                return next(iter(level))
            del self._levels[heapq.heappop(self._heap)]
        return None


@attrs.define
class _NodeLoads:
    """The servers of one node."""

    servers: _Loads[bytes] = attrs.Factory(_Loads)
    total: float = 0


_FEWEST_RANKED = 2
"""With fewer nodes than that there is nothing to choose between, and a change need not keep their order."""


class Placement:
    """The loads of all servers, by the ids of node and server.

    Attributes:
        suspended: The nodes that are given no more load.
    """

    def __init__(self) -> None:
        self.suspended: set[bytes] = set()
        self._nodes: dict[bytes, _NodeLoads] = {}
        self._by_load: _Loads[bytes] = _Loads()
        self._node_of: dict[bytes, bytes] = {}

    def add(self, node: bytes, server: bytes) -> None:
        """Add a server without load."""
        loads = self._nodes.setdefault(node, _NodeLoads())
        loads.servers.set(server, 0)
        self._node_of[server] = node
        self._rank(node, loads)
        if len(self._nodes) == _FEWEST_RANKED:
            for other, of_other in self._nodes.items():
                self._rank(other, of_other)

    def remove(self, server: bytes) -> None:
        """Remove a server with its load."""
        node = self._node_of.pop(server, None)
        if node is None:
            return
        loads = self._nodes[node]
        loads.total -= loads.servers.loads[server]
        loads.servers.remove(server)
        if len(loads.servers.loads):
            self._rank(node, loads)
        else:
            del self._nodes[node]
            if node not in self.suspended:
                self._by_load.remove(node)

    def change(self, server: bytes, by: int) -> None:
        """Add to the load of a server; nothing if it is gone."""
        node = self._node_of.get(server)
        if node is None:
            return
        loads = self._nodes[node]
        loads.servers.set(server, loads.servers.loads[server] + by)
        loads.total += by
        if len(self._nodes) >= _FEWEST_RANKED:
            self._rank(node, loads)

    def _rank(self, node: bytes, loads: _NodeLoads) -> None:
        if node not in self.suspended:
            self._by_load.set(node, loads.total / len(loads.servers.loads))

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
            self._rank(node, loads)

    def least(self, node: bytes | None = None) -> bytes | None:
        """Give the least loaded server of a node, or of the least loaded node; None if there is none."""
        where = node
        if node is None:
            where = self._by_load.least() if len(self._nodes) >= _FEWEST_RANKED else next(iter(self._nodes), None)
        loads = self._nodes.get(where) if where is not None and where not in self.suspended else None
        return loads.servers.least() if loads is not None else None

    def takes(self, server: bytes) -> bool:
        """Tell whether a server is there and takes load."""
        node = self._node_of.get(server)
        return node is not None and node not in self.suspended

    def load(self, server: bytes) -> float:
        """Give the load of a server."""
        return self._nodes[self._node_of[server]].servers.loads[server]

    def nodes(self) -> list[bytes]:
        """Give the nodes that have servers."""
        return list(self._nodes)

    def servers(self, node: bytes | None = None) -> list[bytes]:
        """Give the servers of a node, or all."""
        if node is None:
            return list(self._node_of)
        loads = self._nodes.get(node)
        return list(loads.servers.loads) if loads is not None else []

    def total(self) -> float:
        """Give the load of all servers together."""
        return sum(loads.total for loads in self._nodes.values())
