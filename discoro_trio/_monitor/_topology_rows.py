"""The nodes and servers of the monitor's model: facts go in, rows and their sums are read.

`_model` has the coroutines. Nodes and servers that are gone are kept up to a limit; the oldest are dropped first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._rows import Load, NodeRow, ServerRow, percent, total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._rows import ComputationRow, Failures

KEPT_GONE = 1_000
"""How many nodes, and how many servers, are kept that are gone."""
GONE = frozenset({"closed", "disconnected", "ignored"})
"""The states of nodes and servers that are gone."""


class TopologyRows:
    """Nodes and servers.

    Attributes:
        version: Grows with every change, so that readers can skip an unchanged state.
    """

    def __init__(self) -> None:
        self.version: int = 0
        self.nodes: dict[str, NodeRow] = {}
        self.servers: dict[str, ServerRow] = {}

    def changed(self) -> None:
        """Note a change."""
        self.version += 1

    # --- nodes and servers

    def node(self, key: str, **facts: Any) -> NodeRow:
        """Note a node or new facts about one: any fields of `NodeRow` and of its `Load`."""
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = NodeRow(key)
        update(node, facts)
        self.changed()
        return node

    def locate_node(self, addr: str, key: str) -> None:
        """Note a node's Location; a node that had only its address as key gets `key`."""
        node = self.nodes.get(addr)
        if node is None or addr == key or key in self.nodes:
            return
        del self.nodes[addr]
        node.key = key
        self.nodes[key] = node
        for server in node.servers:
            self.servers[server].node = key
        self.changed()

    def nodes_at(self, addr: str) -> list[NodeRow]:
        """Return the present nodes of an address or, if there are none, the former ones."""
        found = [node for node in self.nodes.values() if node.addr == addr]
        return [node for node in found if node.state not in GONE] or found

    def node_left(self, key: str, state: str) -> None:
        """Note that a node is `closed`, `ignored` or `disconnected`, and its servers with it."""
        node = self.node(key, state=state)
        for server in list(node.servers):
            self.server_left(server, state)
        for surplus in _surplus(self.nodes):
            self._remove(surplus)

    def forget_predecessors(self) -> None:
        """Remove nodes that are gone and have a successor: a present node with their name at their address."""
        gone = [node for node in self.nodes.values() if node.state in GONE and node.name]
        present = {(node.name, node.addr) for node in self.alive()} if gone else set()
        for node in gone:
            if (node.name, node.addr) in present:
                self._remove(node.key)
                self.changed()

    def _remove(self, key: str) -> None:
        """Remove a node and its servers."""
        for server in self.nodes.pop(key).servers:
            self.servers.pop(server, None)

    def server(self, key: str, node: str, **facts: Any) -> ServerRow:
        """Note a server or new facts about one: any fields of `ServerRow` and of its `Load`.

        A server that is gone, with the same name at the same node, is removed: this is its successor.
        """
        server = self.servers.get(key)
        if server is None:
            server = self.servers[key] = ServerRow(key, node)
            self.nodes.setdefault(node, NodeRow(node)).servers[key] = None
        elif server.node != node:
            self.nodes[server.node].servers.pop(key, None)
            self.nodes.setdefault(node, NodeRow(node)).servers[key] = None
            server.node = node
        named = server.name
        update(server, facts)
        if server.name != named:
            self._forget_before(server)
        self.changed()
        return server

    def _forget_before(self, successor: ServerRow) -> None:
        here = self.nodes[successor.node].servers
        for key in list(here):
            other = self.servers[key]
            if other is not successor and other.name == successor.name and other.state in GONE:
                del here[key], self.servers[key]

    def server_left(self, key: str, state: str) -> None:
        """Note that a server is `closed`, `ignored` or `disconnected`."""
        server = self.servers.get(key)
        if server is None or server.state in GONE:
            return
        server.state = state
        server.load = Load()
        self.changed()
        for surplus in _surplus(self.servers):
            gone = self.servers.pop(surplus)
            self.nodes[gone.node].servers.pop(surplus, None)

    # --- sums

    def alive(self) -> list[NodeRow]:
        """Return the present nodes."""
        return [node for node in self.nodes.values() if node.state not in GONE]

    def serving(self, node: NodeRow) -> int:
        """Return the number of present servers of a node."""
        return sum(self.servers[key].state not in GONE for key in node.servers)

    def cpu(self) -> float | None:
        """Return the part of all processors that is in use, in percent."""
        known = [(node.load.cpu, node.cpus or 1) for node in self.alive() if node.load.cpu is not None]
        weight = sum(cpus for _, cpus in known)
        return sum(cpu * cpus for cpu, cpus in known) / weight if weight else None

    def memory(self) -> float | None:
        """Return the part of all memory that is in use, in percent."""
        loads = [node.load for node in self.alive()]
        return percent(total(loads, "memory"), total(loads, "memory_total"))


def _surplus(rows: Mapping[str, NodeRow | ServerRow]) -> list[str]:
    """Return the keys of the oldest rows that are gone and beyond the limit."""
    if len(rows) <= KEPT_GONE:
        return []
    gone = [row.key for row in rows.values() if row.state in GONE]
    return gone[: max(0, len(gone) - KEPT_GONE)]


def update(row: NodeRow | ServerRow | ComputationRow | Failures, facts: Mapping[str, Any]) -> None:
    """Set fields of a row, or of its load."""
    for name, value in facts.items():
        if name in Load.__slots__ and isinstance(row, NodeRow | ServerRow):
            setattr(row.load, name, value)
        else:
            setattr(row, name, value)
