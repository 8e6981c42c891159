"""The scheduler's decisions under everything that can happen, in any order, on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from discoro_trio import NodeAllocation
from discoro_trio._cluster._allocations import Allocations
from discoro_trio._cluster._facts import ComputationRequest, Freed, Over
from discoro_trio._config import PULSES
from tests.cluster.scheduler.scheduling_world import PULSE, World

if TYPE_CHECKING:
    from tests.cluster.scheduler.scheduling_world import Client, Node

WISHES = st.one_of(
    st.just(()),
    st.lists(
        st.builds(NodeAllocation, st.sampled_from(["*", "node1", "node2", "*3"]), cpus=st.sampled_from([None, 1, 2])),
        min_size=1,
        max_size=2,
    ).map(tuple),
)


class Scheduled(RuleBasedStateMachine):
    """Nodes and clients that come, go, die, return and lie; a scheduler that is started again."""

    @initialize(zombie_period=st.sampled_from([None, 3 * PULSE]))
    def start(self, zombie_period: float | None) -> None:
        self.world = World(zombie_period=zombie_period)
        self.zombies = zombie_period is not None
        self.lies = False

    # --- picking

    def node(self, data: st.DataObject) -> Node:
        return self.world.nodes[data.draw(st.sampled_from(sorted(self.world.nodes)))]

    def client(self, data: st.DataObject) -> Client:
        return self.living()[data.draw(st.integers(0, len(self.living()) - 1))]

    def living(self) -> list[Client]:
        return [client for client in self.world.clients.values() if not client.over]

    def has_nodes(self) -> bool:
        return bool(self.world.nodes)

    def has_clients(self) -> bool:
        return bool(self.living())

    # --- what happens

    @rule(servers=st.integers(1, 4))
    def a_node_comes(self, servers: int) -> None:
        if len(self.world.nodes) < 5:
            self.world.add_node(servers)

    @precondition(has_nodes)
    @rule(data=st.data())
    def a_node_dies(self, data: st.DataObject) -> None:
        self.world.kill_node(self.node(data))

    @precondition(has_nodes)
    @rule(data=st.data())
    def the_connection_of_a_node_breaks_and_is_made_again(self, data: st.DataObject) -> None:
        node = self.node(data)
        if node.joined:
            self.world.lose_link(node)
        self.world.join(node)

    @precondition(has_nodes)
    @rule(data=st.data())
    def the_connection_of_a_node_breaks(self, data: st.DataObject) -> None:
        node = self.node(data)
        if node.joined:
            self.world.lose_link(node)

    @rule(allocations=WISHES)
    def a_client_submits(self, allocations: tuple[NodeAllocation, ...]) -> None:
        world = self.world
        name = world.fresh("c")
        world.submit(ComputationRequest(name, name + b"!", name.decode(), Allocations(allocations), None, PULSE))

    @precondition(has_clients)
    @rule(data=st.data())
    def a_client_closes(self, data: st.DataObject) -> None:
        self.world.close(self.client(data))

    @precondition(has_clients)
    @rule(data=st.data())
    def a_client_dies(self, data: st.DataObject) -> None:
        self.world.crash(self.client(data))

    @precondition(has_clients)
    @rule(data=st.data())
    def a_client_comes_to_its_nodes(self, data: st.DataObject) -> None:
        self.world.attend(self.client(data))

    @precondition(has_clients)
    @rule(data=st.data())
    def a_client_loses_the_scheduler_and_finds_it_again(self, data: st.DataObject) -> None:
        world, client = self.world, self.client(data)
        world.act(world.state.client_left(world.now, client.submission.client_id, orderly=False))
        world.come_back(client)

    @rule()
    def the_scheduler_is_started_again(self) -> None:
        world = self.world
        world.restart_scheduler()
        for node in world.nodes.values():
            world.join(node)
        for client in self.living():
            world.come_back(client)

    @precondition(has_nodes)
    @rule(data=st.data())
    def what_a_node_and_the_scheduler_said_arrives(self, data: st.DataObject) -> None:
        node = self.node(data)
        queue = data.draw(st.sampled_from(["inbox", "outbox"]))
        waiting = node.inbox if queue == "inbox" else node.outbox
        if waiting:
            waiting.popleft()()

    @rule(pulses=st.integers(1, 6))
    def time_passes(self, pulses: int) -> None:
        self.world.wait(pulses * PULSE)

    @precondition(has_nodes)
    @rule(data=st.data(), number=st.integers(-3, 9), over=st.sampled_from(Over))
    def a_node_lies(self, data: st.DataObject, number: int, over: Over) -> None:
        world, node = self.world, self.node(data)
        computation = data.draw(st.sampled_from(sorted(world.clients) or [b"nobody"]))
        what = data.draw(st.sampled_from(["granted", "refused", "freed", "room"]))
        self.lies = True
        state, now, name = world.state, world.now, node.node_id
        if what == "granted":
            world.act(state.granted(now, name, computation, number, number))
        elif what == "refused":
            world.act(state.refused(now, name, computation, []))
        elif what == "freed":
            world.act(state.freed(now, name, Freed(computation, number, over, number)))
        else:
            world.act(state.room(now, name, number))

    @precondition(has_clients)
    @rule(data=st.data())
    def a_client_lies(self, data: st.DataObject) -> None:
        world, client = self.world, self.client(data)
        before = world.state.claims.get(client.submission.computation)
        world.act(world.state.withdrawn(world.now, client.submission.computation, b"somebody else"))
        assert world.state.claims.get(client.submission.computation) is before

    # --- what always holds

    @invariant()
    def no_server_has_two_computations(self) -> None:
        for node in getattr(self, "world", World()).nodes.values():
            slots = [slot for lease in node.holding.leases.values() for slot in lease.slots]
            assert len(slots) == len(set(slots)) == len(node.holding.slots) - node.holding.free

    @invariant()
    def the_state_of_the_scheduler_is_consistent(self) -> None:
        getattr(self, "world", World()).state.validate()

    @invariant()
    def the_scheduler_never_counts_on_more_servers_than_there_are(self) -> None:
        for node in getattr(self, "world", World()).state.nodes.values():
            assert 0 <= node.own <= node.facts.servers

    def teardown(self) -> None:
        """However it came to this: every lease ends, and everybody who waits is served in order."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for node in world.nodes.values():
            if not node.joined or self.lies:  # a node that lied says once more what is true
                world.lose_link(node)
                world.join(node)
        world.deliver()
        world.wait(PULSES * PULSE + 1)
        world.deliver()
        rounds = 0
        while waiting := self.living():
            rounds += 1
            assert rounds < 100
            running = [client for client in waiting if client.running]
            assert running, "somebody waits and nobody runs"
            self.check_servers(waiting)
            for client in running:
                if client.over:
                    continue
                before = len(world.turns)
                world.close(client)
                world.deliver()
                self.check_order(world.turns[before:], waiting)
        world.deliver()
        world.wait(PULSES * PULSE + 1)
        world.deliver()
        assert not list(world.state.claims)
        for node in world.nodes.values():
            assert not node.holding.leases
            assert node.holding.free == len(node.holding.slots)

    def check_servers(self, waiting: list[Client]) -> None:
        """The first of those that want everything has what nodes have, or is given it when it is free."""
        world = self.world
        claims = [world.state.claims.get(client.submission.computation) for client in waiting]
        for claim, client in zip(claims, waiting, strict=True):
            assert claim is not None, "a client waits, and the scheduler does not have its computation"
            assert client.running or not claim.running, "a client has its turn and is not told"
            assert claim.detached or claim.nodes <= client.leased, "a client has servers and is not told"

    def check_order(self, turns: list[bytes], clients: list[Client]) -> None:
        by_name = {client.submission.computation: client for client in clients}
        queue_entries = [by_name[name].queue_entry for name in turns if name in by_name]
        assert queue_entries == sorted(queue_entries)


Scheduled.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduled = pytest.mark.spec("S32", "S40", "S57", "S72", "B09", "B19")(Scheduled.TestCase)
