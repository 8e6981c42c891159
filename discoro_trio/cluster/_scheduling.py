"""Which computation runs, and which nodes it has: the scheduler's decisions, without any I/O.

Events go in as method calls, effects come out as a list; `_scheduler` carries them out. The node is the authority for
its servers: a grant is asked for here and counts when the node has given it.
"""

from __future__ import annotations

import secrets

import attrs


@attrs.frozen
class NodeFacts:
    """What a node says of itself."""

    node_id: bytes
    name: str
    addr: str
    port: int
    servers: int
    platform: str


@attrs.define
class _Node:
    facts: NodeFacts
    holder: bytes | None = None
    """The computation that has it, or is about to."""


@attrs.define
class _Computation:
    computation: bytes
    client_id: bytes
    name: str
    number: int
    key: bytes = attrs.Factory(lambda: secrets.token_bytes(32))
    """One for all its servers, so that they can talk to each other."""
    running: bool = False


@attrs.frozen
class TellTurn:
    """Tell the client that its computation runs."""

    client_id: bytes
    computation: bytes


@attrs.frozen
class AskGrant:
    """Ask the node to give its servers to a computation."""

    node_id: bytes
    computation: bytes
    client_id: bytes
    epoch: int
    key: bytes


@attrs.frozen
class AskRevoke:
    """Ask the node to take its servers back."""

    node_id: bytes
    computation: bytes


@attrs.frozen
class TellLeased:
    """Tell the client that it has a node's servers."""

    client_id: bytes
    computation: bytes
    facts: NodeFacts
    key: bytes


Effect = TellTurn | AskGrant | AskRevoke | TellLeased


class Scheduling:
    """The scheduler's state: nodes, and computations in the order submitted.

    One computation runs at a time and has all servers; the next one's turn comes when it is over.
    """

    def __init__(self) -> None:
        self.nodes: dict[bytes, _Node] = {}
        self.computations: dict[bytes, _Computation] = {}
        self._number = 0

    # --- events

    def submitted(self, computation: bytes, client_id: bytes, name: str) -> int:
        """Queue a computation; give its number. `advance` says what follows."""
        self._number += 1
        self.computations[computation] = _Computation(computation, client_id, name, self._number)
        return self._number

    def advance(self) -> list[Effect]:
        """Let the next computation run if none does, and give it the nodes that are free."""
        effects: list[Effect] = []
        running = next((one for one in self.computations.values() if one.running), None)
        if running is None:
            running = next(iter(self.computations.values()), None)
            if running is None:
                return effects
            running.running = True
            effects.append(TellTurn(running.client_id, running.computation))
        effects += [self._grant(node, running) for node in self.nodes.values() if node.holder is None]
        return effects

    def _grant(self, node: _Node, running: _Computation) -> AskGrant:
        node.holder = running.computation
        return AskGrant(node.facts.node_id, running.computation, running.client_id, running.number, running.key)

    def granted(self, node_id: bytes, computation: bytes) -> list[Effect]:
        """The node has given its servers."""
        node = self.nodes.get(node_id)
        running = self.computations.get(computation)
        if node is None or node.holder != computation:
            return []
        if running is None:  # it was withdrawn meanwhile
            return [AskRevoke(node_id, computation)]
        return [TellLeased(running.client_id, computation, node.facts, running.key)]

    def freed(self, node_id: bytes) -> list[Effect]:
        """A node's servers are free again."""
        node = self.nodes.get(node_id)
        if node is not None:
            node.holder = None
        return self.advance()

    def withdrawn(self, computation: bytes) -> list[Effect]:
        """A computation is over, or gone from the queue."""
        if self.computations.pop(computation, None) is None:
            return []
        revokes: list[Effect] = [
            AskRevoke(node.facts.node_id, computation) for node in self.nodes.values() if node.holder == computation
        ]
        return revokes + self.advance()

    def client_left(self, client_id: bytes) -> list[Effect]:
        """A client is gone, and its computations with it."""
        mine = [one.computation for one in self.computations.values() if one.client_id == client_id]
        return [effect for computation in mine for effect in self.withdrawn(computation)]

    def node_joined(self, facts: NodeFacts) -> list[Effect]:
        """A node offers its servers."""
        self.nodes[facts.node_id] = _Node(facts)
        return self.advance()

    def node_left(self, node_id: bytes) -> None:
        """A node is gone."""
        self.nodes.pop(node_id, None)
