"""Who gets which servers: what follows from any event, for the queue and for each node.

This module owns the scheduler's state and the decisions on it; the events that lead to them are with `_scheduling`.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

from ..._records import Record
from ..._status import Status
from .._facts import Over
from ._claims import Claim, Claims
from ._effects import AskGrant, AskRevoke, ClaimOver, Happened, TellDiscarded, TellLeased, TellRests, TellTurn

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._facts import Held
    from ._effects import Effect
    from ._node_state import NodeState


def _new_key() -> bytes:
    return secrets.token_bytes(32)


class Rules(Record, frozen=True, kw_only=True):
    """What holds for one scheduler."""

    epoch: int = 1
    """Its incarnation: greater than that of any scheduler before it."""
    shared: bool = False
    """Whether its own zombie period rules, and leases of a shared scheduler that is gone are taken over."""
    zombie_period: float | None = None
    """Seconds after which an idle server is closed; 0 or None for never."""
    pulse_interval: float = 10.0
    """Seconds between the pulses of nodes."""
    settled_at: float = -math.inf
    """Nothing is granted before by a scheduler that was started again, so that nodes can report what they have granted.

    That it was is known by such a report, or by a client that comes back; a first node without either ends the wait.
    """
    make_key: Callable[[], bytes] = _new_key
    """Makes lease keys."""


class Allotment:
    """The scheduler's state: nodes with their leases, and computations by their tickets.

    A computation has all servers that it wants, by default all there are; the turn of the next one comes when what
    it wants is not wanted by anybody before it.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.nodes: dict[bytes, NodeState] = {}
        self.claims = Claims()
        self._number = 0
        self._settled = self.rules.settled_at == -math.inf
        self._restarted = False

    # --- the queue

    def settles_for(self, now: float) -> float:
        """Give the seconds for which nothing is granted yet, as nodes may have leases of an earlier scheduler."""
        new = bool(self.nodes) and not self._restarted
        return 0.0 if self._settled or new else max(0.0, self.rules.settled_at - now)

    def _advance(self, now: float, changed: NodeState | None = None) -> list[Effect]:
        """Let those run whose turn it is; serve them, and those that ran before where something changed."""
        new = bool(self.nodes) and not self._restarted
        newly_settled = not self._settled and (new or now >= self.rules.settled_at)
        self._settled = self._settled or newly_settled
        if not self._settled:
            return []
        effects: list[Effect] = []
        due = self.claims.due({node_id: node.facts.servers for node_id, node in self.nodes.items()})
        for claim in due:
            claim.running = True
            effects += self._turn(claim)
            for node in self.nodes.values():
                effects += self._discovered(node, claim)
        for claim in self.claims.running():
            if not claim.nodes and claim.bare_since is None:
                claim.bare_since = now
        everywhere = newly_settled or due or changed is None
        nodes = list(self.nodes.values()) if everywhere else [changed] if changed is not None else []
        for node in nodes:
            effects += self._serve(node)
        return effects

    def _turn(self, claim: Claim) -> list[Effect]:
        """Tell a client that its computation runs, if it does: one that comes back may have lost its turn."""
        return [TellTurn(claim.client_id, claim.computation, claim.zombie_period)] if claim.running else []

    def _discovered(self, node: NodeState, claim: Claim | None) -> list[Effect]:
        addr = node.facts.addr
        if claim is None:
            return [Happened(Status.NodeDiscovered, addr, 0, None, None)]
        found: list[Effect] = [Happened(Status.NodeDiscovered, addr, 0, claim.computation, claim.client_id)]
        wanted = claim.wishes is None or claim.wishes.most(node.facts)
        if not wanted or (node.foreign and node.left <= 0):
            found.append(Happened(Status.NodeIgnore, addr, 0, claim.computation, claim.client_id))
        return found

    def _end(self, claim: Claim) -> list[Effect]:
        self.claims.remove(claim.computation)
        effects: list[Effect] = [ClaimOver(claim.client_id, claim.computation, claim.running)]
        for node_id in claim.nodes:
            node = self.nodes.get(node_id)
            if node is not None and node.end_lease(claim.computation):
                effects.append(AskRevoke(node_id, claim.computation))
        return effects

    def discarded(self, now: float, claim: Claim, reason: str) -> list[Effect]:
        """A computation is ended, for a reason that its client is told."""
        return [*self._discard(claim, reason), *self._advance(now)]

    def _discard(self, claim: Claim, reason: str) -> list[Effect]:
        return [TellDiscarded(claim.client_id, claim.computation, reason), *self._end(claim)]

    # --- nodes and their leases

    def rest(self, now: float, node_id: bytes, *, rests: bool) -> list[Effect]:
        """A node is to be given to nobody any more, and those who have servers there start nothing; or again."""
        node = self.nodes[node_id]
        node.suspended = rests
        effects: list[Effect] = []
        for computation in node.leases:
            claim = self.claims.get(computation)
            if claim is not None:
                effects.append(TellRests(claim.client_id, computation, node_id, rests))
        return effects + ([] if rests else self._advance(now, node))

    def _serve(self, node: NodeState) -> list[Effect]:
        """Ask a node for what running computations want of it, in the order of their tickets."""
        if not self._settled:
            return []
        effects: list[Effect] = []
        if node.left <= 0:
            return effects
        for claim in self.claims.running():
            if claim.wishes is None or claim.detached:
                continue
            wanted = claim.wishes.now(node.facts, node.resources) - claim.spent.get(node.facts.node_id, 0)
            asked = node.ask_lease(claim.computation, wanted)
            if asked:
                claim.nodes.add(node.facts.node_id)
                claim.bare_since = None
                effects.append(self._ask(claim, node, asked))
        return effects

    def _ask(self, claim: Claim, node: NodeState, servers: int) -> AskGrant:
        return AskGrant(
            node.facts.node_id,
            claim.computation,
            claim.client_id,
            claim.name,
            claim.queue_entry,
            claim.key,
            servers,
            claim.zombie_period,
            claim.pulse_interval,
        )

    def _leased(self, claim: Claim, node: NodeState) -> TellLeased:
        return TellLeased(claim.client_id, claim.computation, node.facts, claim.key)

    def _lease_over(self, claim: Claim, node: NodeState, over: Over) -> list[Effect]:
        closed = Happened(Status.NodeClosed, node.facts.addr, 0, claim.computation, claim.client_id)
        effects: list[Effect] = [closed] if over is Over.IDLE else []
        if claim.nodes:
            return effects
        if over is Over.IDLE:
            return [*effects, *self._discard(claim, idle_reason(claim))]
        if claim.detached:
            effects += self._end(claim)
        return effects

    def _adopt(self, node: NodeState, held: Held) -> bool:
        """Take over a lease that the node has given already, if it is this scheduler's business."""
        claim = self.claims.get(held.computation)
        own = claim is not None and claim.key == held.key
        if not own and not (self.rules.shared and held.shared and held.orphan):
            return False
        if claim is not None and claim.client_id != held.client_id:
            return False
        if claim is None:
            claim = Claim(
                held.computation,
                held.client_id,
                held.name,
                held.queue_entry,
                held.key,
                None,
                0.0,
                self.rules.pulse_interval,
            )
            claim.detached = True
            self.claims.add(claim)
        claim.key = held.key
        claim.running = True
        claim.bare_since = None
        claim.nodes.add(node.facts.node_id)
        node.adopt_lease(held.computation, held.servers)
        return True

    def _gone(self, now: float, node_id: bytes) -> list[Effect]:
        effects: list[Effect] = []
        del self.nodes[node_id]
        for claim in self.claims:
            claim.wanted.pop(node_id, None)
            if node_id in claim.nodes:
                claim.lost_node(now, node_id)
                if claim.detached and not claim.nodes:
                    effects += self._end(claim)
        return effects


def idle_reason(claim: Claim) -> str:
    """Say why a computation is ended that has done nothing for long."""
    return f"its servers were idle for the zombie period of {claim.zombie_period:g} s"
