"""Where the next coroutine goes: the least loaded server of the least loaded node.

This module owns the loads, without any I/O. Load is the number of coroutines that were started and have not ended.
Picking and counting take time that grows with the logarithm of the number of servers.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

import attrs

K = TypeVar("K")


class _Loads(Generic[K]):
    """Things with loads, the least loaded one first; of equals, the one that waited longest.

    A heap holds one live entry for each thing. An entry that says too little is put right when it comes to the top,
    so that a load which grows costs nothing until then; one that would say too much is replaced at once.
    """

    def __init__(self) -> None:
        self.loads: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._live: dict[K, tuple[float, int]] = {}
        self._turn = 0

    def set(self, key: K, load: float) -> None:
        """Set the load of a thing, which may be new."""
        self.loads[key] = load
        live = self._live.get(key)
        if live is None or load < live[0]:
            self._push(key, load)

    def _push(self, key: K, load: float) -> None:
        self._turn += 1
        self._live[key] = (load, self._turn)
        heapq.heappush(self._heap, (load, self._turn, key))
        if len(self._heap) > 4 * len(self.loads) + 16:
            self._heap = [(*live, key) for key, live in self._live.items()]
            heapq.heapify(self._heap)

    def remove(self, key: K) -> None:
        """Forget a thing."""
        del self.loads[key]
        del self._live[key]

    def least(self) -> K | None:
        """Give the thing with the least load; None if there is none."""
        heap = self._heap
        while heap:
            load, turn, key = heap[0]
            if self._live.get(key) != (load, turn):
                heapq.heappop(heap)
            elif self.loads[key] > load:
                self._turn += 1
                self._live[key] = right = (self.loads[key], self._turn)
                heapq.heapreplace(heap, (*right, key))
            else:
                return key
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
