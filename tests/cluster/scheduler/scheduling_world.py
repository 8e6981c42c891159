"""A simulated world for the scheduler's state machine: nodes, clients and the messages between them.

Everything runs on a virtual clock, and messages of one connection arrive in order but at any time. What the real
shells do is done here in one line each, so that only the decisions are tested.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import attrs
import msgspec

from discoro_trio._cluster._facts import ComputationRequest, Freed, NodeFacts, Over, Resources
from discoro_trio._cluster._lease_terms import QueueEntry
from discoro_trio._cluster.node._holding import Holding
from discoro_trio._cluster.scheduler._effects import AskGrant, AskRevoke, DropNode, TellDiscarded, TellLeased, TellTurn
from discoro_trio._cluster.scheduler._scheduling import Rules, Scheduling
from discoro_trio._config import PULSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from discoro_trio._cluster.scheduler._effects import Effect

PULSE = 10.0


@attrs.define(eq=False)
class Node:
    node_id: bytes
    holding: Holding
    joined: bool = False
    outbox: deque[Callable[[], None]] = attrs.Factory(deque)
    """What is on the way from this node to the scheduler."""
    inbox: deque[Callable[[], None]] = attrs.Factory(deque)
    """What is on the way from the scheduler to this node."""

    @property
    def facts(self) -> NodeFacts:
        return NodeFacts(
            self.node_id, self.node_id.decode(), self.node_id.decode(), 1, len(self.holding.slots), "Linux"
        )


@attrs.define(eq=False)
class Client:
    submission: ComputationRequest
    queue_entry: QueueEntry
    running: bool = False
    """Whether it has had its turn; it goes on even if a scheduler does not count it among the running ones."""
    over: bool = False
    discarded: bool = False
    leased: set[bytes] = attrs.Factory(set)


class World:
    """One scheduler, which may be started again, with nodes and clients."""

    def __init__(self, *, shared: bool = True, zombie_period: float | None = None) -> None:
        self.now = 0.0
        self.shared = shared
        self.zombie_period = zombie_period
        self.epoch = 0
        self.nodes: dict[bytes, Node] = {}
        self.clients: dict[bytes, Client] = {}
        self.turns: list[bytes] = []
        self._counts: Counter[str] = Counter()
        self.restart_scheduler()

    def fresh(self, prefix: str) -> bytes:
        self._counts[prefix] += 1
        return f"{prefix}{self._counts[prefix]}".encode()

    # --- the scheduler

    @property
    def scheduler_id(self) -> bytes:
        return f"scheduler {self.epoch}".encode()

    def restart_scheduler(self) -> None:
        self.epoch += 1
        settled = self.now + PULSES * PULSE if self.epoch > 1 else self.now
        rules = Rules(
            epoch=self.epoch,
            shared=self.shared,
            zombie_period=self.zombie_period,
            pulse_interval=PULSE,
            settled_at=settled,
        )
        self.state = Scheduling(rules)
        for node in self.nodes.values():
            node.joined = False
            node.inbox.clear()
            node.outbox.clear()
            node.holding.scheduler_lost(f"scheduler {self.epoch - 1}".encode())

    def act(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, AskGrant | AskRevoke):
                self._to_node(effect.node_id, effect)
            elif isinstance(effect, DropNode):
                node = self.nodes.get(effect.node_id)
                if node is not None:
                    self.lose_link(node, tell=False)
            elif isinstance(effect, TellTurn | TellLeased | TellDiscarded):
                self._to_client(effect)

    def _to_client(self, effect: TellTurn | TellLeased | TellDiscarded) -> None:
        client = self.clients[effect.computation]
        if isinstance(effect, TellTurn):
            if effect.computation not in self.turns:
                self.turns.append(effect.computation)
                self._check_that_nobody_is_overtaken(client)
                self._check_that_it_is_the_only_one(client)
            client.running = True
        elif isinstance(effect, TellLeased):
            client.leased.add(effect.facts.node_id)
        else:
            client.discarded = True
            client.over = True

    def _check_that_nobody_is_overtaken(self, client: Client) -> None:
        waiting = {claim.computation for claim in self.state.claims if not claim.running}
        for other in self.clients.values():
            if other.submission.computation in waiting and other.queue_entry < client.queue_entry:
                assert not self.overlap(other, client), "one that waits was overtaken"

    def _check_that_it_is_the_only_one(self, client: Client) -> None:
        """Those that are already running may be several: clients and nodes report what earlier schedulers gave."""
        if client.submission.wishes.everything:
            everything = [
                claim.computation
                for claim in self.state.claims
                if claim.running and claim.wishes is not None and claim.wishes.everything
            ]
            assert everything == [client.submission.computation], "two that want everything have their turn"

    def overlap(self, one: Client, other: Client) -> bool:
        """Whether two computations want the same servers, by a rule of this test's own."""
        wishes = [one.submission.wishes, other.submission.wishes]
        if all(wish.everything for wish in wishes):
            return True
        facts = [node.facts for node in self.state.nodes.values()]
        return any(sum(wish.most(here) for wish in wishes) > here.servers for here in facts)

    def _to_node(self, node_id: bytes, effect: AskGrant | AskRevoke) -> None:
        node = self.nodes.get(node_id)
        if node is None or not node.joined:
            return
        if isinstance(effect, AskRevoke):
            node.inbox.append(lambda: self.end_lease(node, effect.computation, Over.REVOKED))
            return
        scheduler_id = self.scheduler_id
        node.inbox.append(lambda: self._grant(node, effect, scheduler_id))

    def _grant(self, node: Node, ask: AskGrant, scheduler_id: bytes) -> None:
        given = node.holding.grant(self.now, ask.terms, ask.servers, scheduler_id=scheduler_id, shared=self.shared)
        free, computation = node.holding.free, ask.terms.computation
        if given:
            self._say(node, lambda: self.state.granted(self.now, node.node_id, computation, given, free))
        else:
            self._say(node, lambda: self.state.refused(self.now, node.node_id, computation, []))

    def _say(self, node: Node, event: Callable[[], list[Effect]]) -> None:
        if node.joined:
            node.outbox.append(lambda: self.act(event()))

    # --- nodes

    def add_node(self, servers: int) -> Node:
        node = Node(self.fresh("node"), Holding(range(1, servers + 1)))
        self.nodes[node.node_id] = node
        self.join(node)
        return node

    def join(self, node: Node) -> None:
        node.joined = True
        holding = node.holding
        adopted, effects = self.state.node_joined(self.now, node.facts, holding.free, holding.reported())
        holding.adopted(adopted, self.scheduler_id)
        self.act(effects)

    def lose_link(self, node: Node, *, tell: bool = True) -> None:
        """Cut the connection between a node and the scheduler; what was on the way is lost."""
        node.joined = False
        node.inbox.clear()
        node.outbox.clear()
        node.holding.scheduler_lost(self.scheduler_id)
        if tell:
            self.act(self.state.node_left(self.now, node.node_id, orderly=False))

    def kill_node(self, node: Node) -> None:
        del self.nodes[node.node_id]
        for client in self.clients.values():
            client.leased.discard(node.node_id)
        if node.joined:
            self.lose_link(node)

    def end_lease(self, node: Node, computation: bytes, over: Over) -> None:
        if not node.holding.end(computation, over):
            return
        servers = node.holding.ended(computation)
        freed = Freed(computation, servers, over, node.holding.free)
        self._say(node, lambda: self.state.freed(self.now, node.node_id, freed))
        client = self.clients.get(computation)
        if client is not None:
            client.leased.discard(node.node_id)

    def look(self, node: Node) -> None:
        """Let a node close what is idle too long, and what nobody has come for."""
        holding = node.holding
        for computation in holding.unattended(self.now):
            self.end_lease(node, computation, Over.CLIENT)
        for slot in holding.idle(self.now):
            lease = holding.holder(slot)
            assert lease is not None
            holding.vacated(slot)
            freed = Freed(lease.terms.computation, 1, Over.IDLE, holding.free)
            self._say(node, lambda freed=freed: self.state.freed(self.now, node.node_id, freed))  # type: ignore[misc]

    # --- clients

    def submit(self, submission: ComputationRequest) -> Client:
        client = self.clients[submission.computation] = Client(submission, QueueEntry(2**60, 0))
        client.queue_entry, effects = self.state.submitted(self.now, submission)
        self.act(effects)
        return client

    def come_back(self, client: Client) -> None:
        """A client finds the scheduler again and shows its ticket."""
        again = msgspec.structs.replace(client.submission, queue_entry=client.queue_entry, running=client.running)
        client.queue_entry, effects = self.state.submitted(self.now, again)
        self.act(effects)

    def attend(self, client: Client) -> None:
        """A client comes to the nodes where it has servers."""
        for node in self.nodes.values():
            lease = node.holding.leases.get(client.submission.computation)
            if lease is not None and node.node_id in client.leased and not lease.attended:
                lease.attended = True
                for slot in lease.slots:
                    node.holding.activity(self.now, slot, busy=False)

    def close(self, client: Client) -> None:
        """A client closes its computation: first at the nodes, then at the scheduler."""
        client.over = True
        computation = client.submission.computation
        for node_id in sorted(client.leased):
            node = self.nodes.get(node_id)
            if node is not None:
                self.end_lease(node, computation, Over.RELEASED)
        self.act(self.state.withdrawn(self.now, computation, client.submission.client_id))

    def crash(self, client: Client) -> None:
        """A client dies; nodes that it has come to and the scheduler see its connections end."""
        client.over = True
        self.act(self.state.client_left(self.now, client.submission.client_id, orderly=False))
        computation = client.submission.computation
        for node in self.nodes.values():
            lease = node.holding.leases.get(computation)
            if lease is not None and lease.attended:
                self.end_lease(node, computation, Over.CLIENT)

    # --- time

    def deliver(self) -> None:
        """Bring everything that is on the way."""
        while any(node.inbox or node.outbox for node in self.nodes.values()):
            for node in list(self.nodes.values()):
                while node.inbox:
                    node.inbox.popleft()()
                while node.outbox:
                    node.outbox.popleft()()

    def pulse(self) -> None:
        for node in self.nodes.values():
            if node.joined:
                self.act(self.state.pulsed(self.now, node.node_id, Resources(1, 1)))

    def wait(self, seconds: float) -> None:
        """Let time pass, with pulses and looks at their times."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + PULSE)
            self.pulse()
            self.act(self.state.tick(self.now))
            for node in list(self.nodes.values()):
                self.look(node)
