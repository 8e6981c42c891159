"""Decides which computation runs and which servers it has, for the scheduler; without I/O and without a clock.

Events go in as method calls with the time; effects come out as a list, and `_scheduler` carries them out. The node is
the authority for its servers: a grant is requested here and counts once the node has given it. Messages of nodes and
clients are not trusted: counts are bounded, and grants that were not requested are ignored.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from ..._config import PULSES
from ..._records import Record
from ..._status import Status
from .._facts import Over
from .._lease_terms import QueueEntry
from . import _events as events
from ._claims import Claim, Claims
from ._effects import (
    AskGrant,
    AskRevoke,
    ClaimOver,
    DropNode,
    Happened,
    TellDiscarded,
    TellLeased,
    TellRests,
    TellTurn,
)
from ._events import Decision, LogEntry
from ._node_state import NodeState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._facts import ComputationRequest, Freed, NodeFacts, Resources
    from .._lease_terms import HeldLease
    from ._effects import Effect
    from ._events import Event


def _new_key() -> bytes:
    return secrets.token_bytes(32)


class Rules(Record, frozen=True, kw_only=True):
    """The settings of one scheduler."""

    epoch: int = 1
    """Its incarnation: greater than that of any scheduler before it."""
    shared: bool = False
    """Whether it is shared: its own zombie period applies, and it takes over leases of a lost shared scheduler."""
    zombie_period: float | None = None
    """Seconds after which an idle server is closed; 0 or None for never."""
    pulse_interval: float = 10.0
    """Seconds between the heartbeats of nodes."""
    settled_at: float = -math.inf
    """A restarted scheduler grants nothing before this time, so that nodes can report the leases that they granted.

    Such a report, or a client that comes back, shows that it was restarted; if `restarted` is not set, a first node
    without either ends the wait.
    """
    restarted: bool = False
    """Whether it is known that there was an earlier scheduler, so that the whole time is waited."""
    make_key: Callable[[], bytes] = _new_key
    """Generates lease keys."""
    validate: bool = False
    """Whether the state is checked after every event."""


_KEPT_EVENTS = 1000
"""The events that the log keeps; the oldest are dropped first."""


def _check(holds: bool, message: str) -> None:  # noqa: FBT001 - as `assert`, which `python -O` leaves out
    if not holds:
        raise AssertionError(message)


class Scheduling:
    """The scheduler's state: nodes with their leases, and computations by their queue entries.

    A computation has all servers that it wants, by default all servers. The next computation's turn comes when no
    earlier computation wants the same servers. `handle` takes the events of clients, nodes and the clock; each method
    that it calls takes one kind.

    Attributes:
        log: The last events and the resulting decisions.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.nodes: dict[bytes, NodeState] = {}
        self.claims = Claims()
        self.log: deque[LogEntry] = deque(maxlen=_KEPT_EVENTS)
        self._number = 0
        self._settled = self.rules.settled_at == -math.inf
        self._restarted = self.rules.restarted

    # --- all events

    def handle(self, now: float, event: Event) -> Decision:
        """Decide what follows from an event; keep the event and the decision in the log.

        Raises:
            ValueError: The submitted computation belongs to another client.
            AssertionError: The state is no longer consistent; checked only if `rules.validate` is set.
        """
        decision = None
        try:
            decision = self._decide(now, event)
        finally:
            self.log.append(LogEntry(now, event, decision))
        if self.rules.validate:
            self.validate()
        return decision

    def _decide(self, now: float, event: Event) -> Decision:
        match event:
            case events.Submitted(_, request):
                queue_entry, effects = self.submitted(now, request)
                return Decision(tuple(effects), queue_entry=queue_entry)
            case events.NodeJoined(_, facts, free, held):
                adopted, effects = self.node_joined(now, facts, free, held)
                return Decision(tuple(effects), adopted=tuple(adopted))
            case events.Withdrawn(client, computation):
                return Decision(tuple(self.withdrawn(now, computation, client)))
            case events.ClientLeft(client, orderly):
                return Decision(tuple(self.client_left(now, client, orderly=orderly)))
            case events.NodeLeft(node_id, orderly):
                return Decision(tuple(self.node_left(now, node_id, orderly=orderly)))
            case events.Pulsed(node_id, resources):
                return Decision(tuple(self.pulsed(now, node_id, resources)))
            case events.GrantGiven(node_id, computation, servers, free):
                return Decision(tuple(self.granted(now, node_id, computation, servers, free)))
            case events.GrantRefused(node_id, computation, where):
                return Decision(tuple(self.refused(now, node_id, computation, where)))
            case events.RoomReported(node_id, free):
                return Decision(tuple(self.room(now, node_id, free)))
            case events.FreedReported(node_id, freed):
                return Decision(tuple(self.freed(now, node_id, freed)))
            case events.CloseAsked(_, computation, reason):
                claim = self.claims.get(computation)
                return Decision(() if claim is None else tuple(self.discarded(now, claim, reason)))
            case events.RestAsked(_, node_id, rests):
                return Decision(tuple(self.rest(now, node_id, rests=rests)) if node_id in self.nodes else ())
            case events.Stalled():
                self.stalled(now)
                return Decision()
            case events.Ticked():
                return Decision(tuple(self.tick(now)))

    def validate(self) -> None:
        """Check the invariants that hold between any two events.

        Raises:
            AssertionError: One is violated; the text names it.
        """
        entries = [claim.terms.queue_entry for claim in self.claims]
        _check(len(set(entries)) == len(entries), "two computations have one place in the queue")
        for claim in self.claims:
            _check(claim.running or not claim.nodes, f"{claim.terms.name} waits and has servers")
            for node_id in claim.nodes:
                node = self.nodes.get(node_id)
                _check(
                    node is not None and claim.computation in node.leases,
                    f"{claim.terms.name} has servers of a node that is gone or has given none",
                )
        for node in self.nodes.values():
            _check(node.own <= node.facts.servers, f"more servers of {node.facts.name} are given than it has")
            for computation, share in node.leases.items():
                holder = self.claims.get(computation)
                _check(share.servers >= 0 and share.asked >= 0, f"a lease at {node.facts.name} has a negative number")
                _check(bool(share.servers or share.asked), f"a lease at {node.facts.name} has no servers")
                _check(
                    holder is None or node.facts.node_id in holder.nodes,
                    f"a computation has no record of its lease at {node.facts.name}",
                )

    # --- clients

    def submitted(self, now: float, submission: ComputationRequest) -> tuple[QueueEntry, list[Effect]]:
        """Queue a computation, or restore one that comes back to its place.

        Raises:
            ValueError: It belongs to another client.
        """
        claim = self.claims.get(submission.computation)
        if claim is not None:
            return claim.terms.queue_entry, self._came_back(now, claim, submission)
        key = submission.key or self.rules.make_key()
        claim = Claim.of(now, submission, self._queue_entry(submission), key, self._zombie_period(submission))
        claim.running = submission.running and not self._settled
        self._restarted = self._restarted or submission.queue_entry is not None
        self.claims.add(claim)
        for node in self.nodes.values():
            claim.note(node.facts)
        return claim.terms.queue_entry, [*self._turn(claim), *self._advance(now)]

    def _queue_entry(self, submission: ComputationRequest) -> QueueEntry:
        old = submission.queue_entry
        own = QueueEntry(self.rules.epoch, self._number)
        if old is not None and old <= own and not self.claims.holds(old):
            return old
        self._number += 1
        return QueueEntry(self.rules.epoch, self._number)

    def _zombie_period(self, submission: ComputationRequest) -> float:
        rules = self.rules
        own = None if rules.shared else submission.zombie_period
        return (rules.zombie_period if own is None else own) or 0.0

    def _came_back(self, now: float, claim: Claim, submission: ComputationRequest) -> list[Effect]:
        if claim.client_id != submission.client_id:
            message = "this computation belongs to another client"
            raise ValueError(message)
        claim.detached = False
        claim.wishes = submission.wishes
        claim.owner = submission.owner
        claim.terms = msgspec.structs.replace(
            claim.terms, zombie_period=self._zombie_period(submission), pulse_interval=submission.pulse_interval
        )
        for node in self.nodes.values():
            claim.note(node.facts)
        effects = self._turn(claim)
        if claim.running:
            effects += [self._leased(claim, self.nodes[node_id]) for node_id in claim.nodes if node_id in self.nodes]
        return effects + self._advance(now)

    def withdrawn(self, now: float, computation: bytes, client_id: bytes) -> list[Effect]:
        """A client closes its computation, or gives up its place in the queue."""
        claim = self.claims.get(computation)
        if claim is None or claim.client_id != client_id:
            return []
        return self._end(claim) + self._advance(now)

    def client_left(self, now: float, client_id: bytes, *, orderly: bool) -> list[Effect]:
        """A client closed its connection in order, or the connection is lost.

        Its waiting computations leave the queue; a client that comes back presents its queue entry. Its running
        computations end at once after an orderly close. After a loss they end when the nodes, which have links of their
        own to the client, have freed their servers.
        """
        effects: list[Effect] = []
        for claim in self.claims.of_client(client_id):
            if claim.running and claim.nodes and not orderly:
                claim.detached = True
            else:
                effects += self._end(claim)
        return effects + self._advance(now)

    # --- nodes

    def node_joined(
        self, now: float, facts: NodeFacts, free: int, held: Iterable[HeldLease]
    ) -> tuple[list[bytes], list[Effect]]:
        """A node offers its servers; also return the computations whose leases there are this scheduler's."""
        again = facts.node_id in self.nodes
        rests = again and self.nodes[facts.node_id].suspended
        effects = self._gone(now, facts.node_id) if again else []
        node = self.nodes[facts.node_id] = NodeState(facts, now)
        held = list(held)
        adopted = [one.terms.computation for one in held if self._adopt(node, one)]
        # A lease of another shared scheduler that is not lost yet: that may be the predecessor, which ends soon.
        self._restarted = self._restarted or bool(adopted) or (self.rules.shared and any(one.shared for one in held))
        node.told_free(free)
        node.suspended = rests
        for claim in self.claims:
            claim.note(facts)
        effects += self._discovered(node, None)
        # Their clients may have lost their turn, or an earlier scheduler ended before they were notified.
        for own in map(self.claims.get, adopted):
            if own is not None and not own.detached:
                effects += [*self._turn(own), self._leased(own, node)]
        for claim in self.claims.running():
            effects += self._discovered(node, claim)
        quick = self._settled and not again
        return adopted, effects + (self._serve(node) if quick else self._advance(now, node))

    def node_left(self, now: float, node_id: bytes, *, orderly: bool) -> list[Effect]:
        """A node is gone. Clients decide by their own connections whether its servers are gone, too."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        status = Status.NodeClosed if orderly else Status.NodeDisconnected
        effects: list[Effect] = [Happened(status, node.facts.addr, 0, None, None)]
        for computation in node.leases:
            claim = self.claims.get(computation)
            if claim is not None:
                effects.append(Happened(status, node.facts.addr, 0, computation, claim.client_id))
        return effects + self._gone(now, node_id) + self._advance(now)

    def pulsed(self, now: float, node_id: bytes, resources: Resources) -> list[Effect]:
        """A node is alive and reports its resources."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        node.heard = now
        first = node.resources is None
        node.resources = resources
        wanted = any(claim.wishes is not None and claim.wishes.frugal for claim in self.claims.running())
        return self._serve(node) if wanted or first else []

    def granted(self, now: float, node_id: bytes, computation: bytes, servers: int, free: int) -> list[Effect]:  # noqa: ARG002 - all events come with the time
        """A node has given servers, perhaps fewer than requested."""
        node = self.nodes.get(node_id)
        if node is None or not node.grant_lease(computation, servers):
            return []
        node.told_free(free)
        claim = self.claims.get(computation)
        if claim is None or node.leases[computation].ending:  # it was withdrawn meanwhile
            node.end_lease(computation)
            return [AskRevoke(node_id, computation)]
        claim.bare_since = None
        return [self._leased(claim, node), *self._serve(node)]

    def refused(self, now: float, node_id: bytes, computation: bytes, held: Iterable[tuple[str, int]]) -> list[Effect]:
        """A node has given nothing: another scheduler has its servers. The node reports when they are free."""
        node = self.nodes.get(node_id)
        if node is None or not node.refuse_lease(computation):
            return []
        claim = self.claims.get(computation)
        if claim is None:
            return []
        effects: list[Effect] = [
            Happened(Status.ServerIgnore, addr, port, computation, claim.client_id) for addr, port in held
        ]
        if computation not in node.leases:
            claim.lost_node(now, node_id)
            if claim.detached and not claim.nodes:
                effects += self._end(claim) + self._advance(now)
        return effects

    def room(self, now: float, node_id: bytes, free: int) -> list[Effect]:  # noqa: ARG002 - as above
        """A node has free servers again, or fewer than before."""
        node = self.nodes.get(node_id)
        if node is None:
            return []
        node.told_free(free)
        return self._serve(node)

    def freed(self, now: float, node_id: bytes, freed: Freed) -> list[Effect]:
        """Servers of a lease are free again; with the last of them the lease has ended."""
        node = self.nodes.get(node_id)
        computation, over = freed.computation, freed.over
        if node is None:
            return []
        known = node.free_lease(computation, freed.servers)
        node.told_free(freed.free)
        if not known:  # the lease ended while the node was unreachable, and was not taken over
            return self._advance(now, node)
        claim = self.claims.get(computation)
        effects: list[Effect] = []
        if claim is not None:
            claim.through_with(node_id, node.facts.servers if over is Over.RELEASED else freed.servers, over)
            if computation not in node.leases:
                claim.lost_node(now, node_id)
                effects += self._lease_over(claim, node, over)
        return effects + self._advance(now, node)

    def givers(self, computation: bytes) -> list[bytes] | None:
        """Return the nodes that have given servers to a computation; None while one that was asked has not answered."""
        leases = {node_id: node.leases.get(computation) for node_id, node in self.nodes.items()}
        if any(lease is not None and lease.asked for lease in leases.values()):
            return None
        return [node_id for node_id, lease in leases.items() if lease is not None and lease.servers]

    # --- the clock

    def tick(self, now: float) -> list[Effect]:
        """Act on the time: nodes without heartbeats, computations without servers, the end of settling."""
        effects: list[Effect] = []
        for node in [node for node in self.nodes.values() if now >= self._dead_at(node)]:
            effects += [DropNode(node.facts.node_id), *self.node_left(now, node.facts.node_id, orderly=False)]
        for claim in self.claims.running():
            since = claim.bare_since
            if claim.terms.zombie_period and since is not None and now - since >= claim.terms.zombie_period:
                effects += self._discard(claim, idle_reason(claim))
        return effects + self._advance(now)

    def stalled(self, now: float) -> None:
        """This process has not run for a while: allow one pulse interval to read what nodes sent meanwhile."""
        for node in self.nodes.values():
            node.heard = max(node.heard, now - (PULSES - 1) * self._pulse_interval(node))

    def next_tick(self) -> float:
        """Return the time of the next `tick` that can have an effect."""
        times = [self._dead_at(node) for node in self.nodes.values()]
        times += [
            claim.bare_since + claim.terms.zombie_period
            for claim in self.claims
            if claim.bare_since is not None and claim.terms.zombie_period
        ]
        if not self._settled:
            times.append(self.rules.settled_at)
        return min(times, default=math.inf)

    def _dead_at(self, node: NodeState) -> float:
        return node.heard + PULSES * self._pulse_interval(node)

    def _pulse_interval(self, node: NodeState) -> float:
        """Return the pulse interval in force at a node: the longest of its computations."""
        claims = (self.claims.get(computation) for computation in node.leases)
        intervals = [claim.terms.pulse_interval for claim in claims if claim is not None]
        return max(intervals, default=self.rules.pulse_interval)

    def pulse_interval_with(self, process_id: bytes) -> float | None:
        """Return the pulse interval in force with a node or a client; None for another process."""
        intervals = [claim.terms.pulse_interval for claim in self.claims.of_client(process_id)]
        node = self.nodes.get(process_id)
        if node is not None:
            intervals.append(self._pulse_interval(node))
        return max(intervals, default=None)

    # --- the queue

    def settles_for(self, now: float) -> float:
        """Return the seconds for which nothing is granted, as nodes may still have leases of an earlier scheduler."""
        new = bool(self.nodes) and not self._restarted
        return 0.0 if self._settled or new else max(0.0, self.rules.settled_at - now)

    def _advance(self, now: float, changed: NodeState | None = None) -> list[Effect]:
        """Start the computations whose turn it is; request servers for them, and at changed nodes for running ones."""
        new = bool(self.nodes) and not self._restarted
        newly_settled = not self._settled and (new or now >= self.rules.settled_at)
        self._settled = self._settled or newly_settled
        if not self._settled:
            return []
        effects: list[Effect] = []
        due = self.claims.due({node_id: node.facts.servers for node_id, node in self.nodes.items()})
        for claim in due:
            claim.running, claim.began_at = True, now
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
        """Notify a client if its computation runs: a client that comes back may have lost its turn."""
        return [TellTurn(claim.client_id, claim.computation, claim.terms.zombie_period)] if claim.running else []

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
        """End a computation; its client receives the reason."""
        return [*self._discard(claim, reason), *self._advance(now)]

    def _discard(self, claim: Claim, reason: str) -> list[Effect]:
        return [TellDiscarded(claim.client_id, claim.computation, reason), *self._end(claim)]

    # --- nodes and their leases

    def rest(self, now: float, node_id: bytes, *, rests: bool) -> list[Effect]:
        """Suspend or resume a node: no leases are granted there, and its clients start nothing there."""
        node = self.nodes[node_id]
        node.suspended = rests
        effects: list[Effect] = []
        for computation in node.leases:
            claim = self.claims.get(computation)
            if claim is not None:
                effects.append(TellRests(claim.client_id, computation, node_id, rests))
        return effects + ([] if rests else self._advance(now, node))

    def _serve(self, node: NodeState) -> list[Effect]:
        """Request a node's servers for running computations, in the order of their queue entries."""
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
        return AskGrant(node.facts.node_id, claim.terms, servers)

    def _leased(self, claim: Claim, node: NodeState) -> TellLeased:
        return TellLeased(claim.client_id, claim.computation, node.facts, claim.terms.key)

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

    def _adopt(self, node: NodeState, held: HeldLease) -> bool:
        """Take over a lease that the node has already given, if this scheduler is responsible for it."""
        claim = self.claims.get(held.terms.computation)
        own = claim is not None and claim.terms.key == held.terms.key
        if not own and not (self.rules.shared and held.shared and held.orphan):
            return False
        if claim is not None and claim.client_id != held.terms.client_id:
            return False
        if claim is None:
            terms = msgspec.structs.replace(held.terms, zombie_period=0.0, pulse_interval=self.rules.pulse_interval)
            claim = Claim(terms, None)
            claim.detached = True
            # If it has been ended here before, other nodes may still have to answer, or to take servers back.
            claim.nodes |= {node_id for node_id, other in self.nodes.items() if claim.computation in other.leases}
            self.claims.add(claim)
        claim.terms = msgspec.structs.replace(claim.terms, key=held.terms.key)
        claim.running = True
        claim.bare_since = None
        claim.nodes.add(node.facts.node_id)
        node.adopt_lease(held.terms.computation, held.servers)
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
    """Describe why an idle computation is ended."""
    return f"its servers were idle for the zombie period of {claim.terms.zombie_period:g} s"


def replay(rules: Rules, log: Iterable[LogEntry]) -> list[Decision | None]:
    """Handle the events of a log again, from the start.

    Args:
        rules: The rules of the scheduler that kept the log.
        log: All events since that scheduler was opened.

    Returns:
        The decisions made now; they equal those in the log, unless the code has changed.
    """
    state = Scheduling(rules)
    decisions: list[Decision | None] = []
    for entry in log:
        try:
            decisions.append(state.handle(entry.now, entry.event))
        except ValueError:
            decisions.append(None)
    return decisions
