"""Single decisions of the scheduler, on a virtual clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from discoro_trio import NodeAllocation, Status
from discoro_trio._cluster._allocations import Allocations
from discoro_trio._cluster._facts import ComputationRequest, Freed, NodeFacts, Over, Resources
from discoro_trio._cluster._lease_terms import HeldLease, LeaseTerms, QueueEntry
from discoro_trio._cluster.scheduler._effects import (
    AskGrant,
    AskRevoke,
    ClaimOver,
    DropNode,
    Happened,
    TellDiscarded,
    TellLeased,
    TellTurn,
)
from discoro_trio._cluster.scheduler._scheduling import Rules, Scheduling
from tests.cluster.scheduler.scheduling_world import PULSE, World

if TYPE_CHECKING:
    from discoro_trio._cluster.scheduler._effects import Effect


def facts(name: str, servers: int = 2, platform: str = "Linux-x86_64") -> NodeFacts:
    return NodeFacts(name.encode(), name, f"10.0.0.{name[-1]}", 4000, servers, platform)


def submission(name: str, *allocations: NodeAllocation) -> ComputationRequest:
    return ComputationRequest(name.encode(), f"client of {name}".encode(), name, Allocations(allocations), None, PULSE)


def in_world(world: World, name: str, *allocations: NodeAllocation) -> None:
    world.submit(submission(name, *allocations))


@pytest.mark.spec("S32", "S72")
def test_computations_run_one_at_a_time_in_the_order_submitted() -> None:
    world = World()
    world.add_node(2)
    for name in "abc":
        in_world(world, name)
    world.deliver()
    assert world.turns == [b"a"]
    for expected in (b"b", b"c"):
        world.close(world.clients[world.turns[-1]])
        world.deliver()
        assert world.turns[-1] == expected


@pytest.mark.spec("S33")
def test_the_active_computation_holds_all_servers_of_late_nodes_too() -> None:
    world = World()
    in_world(world, "a")
    node, late = world.add_node(2), world.add_node(3)
    world.deliver()
    assert node.holding.free == late.holding.free == 0
    assert world.clients[b"a"].leased == {node.node_id, late.node_id}


@pytest.mark.spec("S57")
def test_one_that_does_not_want_to_wait_any_more_leaves_no_gap() -> None:
    world = World()
    world.add_node(1)
    for name in "abc":
        in_world(world, name)
    world.close(world.clients[b"b"])
    world.deliver()
    assert world.turns == [b"a"]
    world.close(world.clients[b"a"])
    world.deliver()
    assert world.turns == [b"a", b"c"]


@pytest.mark.spec("B09")
def test_disjoint_computations_run_side_by_side_and_the_first_that_overlaps_waits() -> None:
    world = World()
    one, two = world.add_node(2), world.add_node(2)
    in_world(world, "a", NodeAllocation(one.node_id.decode()))
    in_world(world, "b", NodeAllocation(two.node_id.decode(), cpus=1))
    in_world(world, "c", NodeAllocation(two.node_id.decode(), cpus=1))
    in_world(world, "d", NodeAllocation("*", cpus=1))
    world.deliver()
    assert world.turns == [b"a", b"b", b"c"]
    assert set(two.holding.leases) == {b"b", b"c"}


@pytest.mark.spec("B09")
def test_nobody_overtakes_one_that_waits_for_the_same_servers() -> None:
    world = World()
    one, two = world.add_node(2), world.add_node(2)
    first, second = (NodeAllocation(node.node_id.decode()) for node in (one, two))
    in_world(world, "a", first)
    in_world(world, "b", first, second)
    in_world(world, "c", second)
    world.deliver()
    assert world.turns == [b"a"]
    world.close(world.clients[b"a"])
    world.deliver()
    assert world.turns == [b"a", b"b"]


@pytest.mark.spec("B09")
@pytest.mark.parametrize(
    ("allocation", "servers"),
    [
        (NodeAllocation("10.0.0.1"), 4),
        (NodeAllocation("10.0.*", cpus=3), 3),
        (NodeAllocation("n1"), 4),
        (NodeAllocation("10.0.0.2"), 0),
        (NodeAllocation(platform="linux"), 4),
        (NodeAllocation(platform="Windows"), 0),
        (NodeAllocation(memory=100), 4),
        (NodeAllocation(memory=101), 0),
        (NodeAllocation(disk=51), 0),
        (NodeAllocation(cpus=9), 4),
    ],
)
def test_an_allocation_admits_nodes_by_name_platform_and_what_they_have(
    allocation: NodeAllocation, servers: int
) -> None:
    state = Scheduling()
    state.submitted(0, submission("a", allocation))
    _, effects = state.node_joined(0, facts("n1", 4), 4, [])
    effects += state.pulsed(1, b"n1", Resources(memory=100, disk=50))
    asked = [effect.servers for effect in effects if isinstance(effect, AskGrant)]
    assert sum(asked) == servers


@pytest.mark.spec("S76", "S79", "B09")
def test_a_node_that_an_allocation_does_not_admit_is_told_as_ignored() -> None:
    state = Scheduling()
    state.submitted(0, submission("a", NodeAllocation("elsewhere")))
    _, effects = state.node_joined(0, facts("n1"), 2, [])
    told = [(effect.status, effect.addr) for effect in effects if isinstance(effect, Happened) and effect.computation]
    assert told == [(Status.NodeDiscovered, "10.0.0.1"), (Status.NodeIgnore, "10.0.0.1")]


@pytest.mark.spec("S39", "S40", "S55")
def test_servers_idle_for_the_zombie_period_of_a_shared_scheduler_are_closed_and_the_next_one_runs() -> None:
    world = World(zombie_period=30)
    node = world.add_node(2)
    for name in "ab":
        in_world(world, name)
    world.deliver()
    world.attend(world.clients[b"a"])
    node.holding.activity(world.now, 1, busy=True)
    world.wait(40)
    world.deliver()
    assert (node.holding.free, world.clients[b"a"].discarded) == (1, False)
    node.holding.activity(world.now, 1, busy=False)
    world.wait(40)
    world.deliver()
    assert world.clients[b"a"].discarded
    assert world.turns == [b"a", b"b"]


@pytest.mark.spec("S55", "S56")
@pytest.mark.parametrize(
    ("shared", "own", "asked", "expected"),
    [
        (True, 1800.0, 5.0, 1800.0),
        (True, 0.0, 5.0, 0.0),
        (False, None, None, 0.0),
        (False, None, 5.0, 5.0),
        (False, 7.0, None, 7.0),
        (False, 7.0, 0.0, 0.0),
    ],
)
def test_whose_zombie_period_rules(*, shared: bool, own: float | None, asked: float | None, expected: float) -> None:
    state = Scheduling(Rules(shared=shared, zombie_period=own))
    _, effects = state.submitted(0, ComputationRequest(b"a", b"c", "a", zombie_period=asked))
    assert [effect.zombie_period for effect in effects if isinstance(effect, TellTurn)] == [expected]


@pytest.mark.spec("S40")
def test_a_computation_that_has_no_server_at_all_for_the_zombie_period_is_discarded() -> None:
    state = Scheduling(Rules(shared=True, zombie_period=30))
    state.submitted(0, submission("a"))
    state.submitted(0, submission("b"))
    assert not [effect for effect in state.tick(29) if isinstance(effect, TellDiscarded)]
    effects = state.tick(30)
    assert [type(effect) for effect in effects] == [TellDiscarded, ClaimOver, TellTurn]


@pytest.mark.spec("S52")
def test_a_node_is_taken_for_dead_after_five_silent_pulses_and_not_before() -> None:
    state = Scheduling(Rules(pulse_interval=PULSE))
    state.node_joined(0, facts("n1"), 2, [])
    state.pulsed(7, b"n1", Resources(1, 1))
    assert state.next_tick() == 7 + 5 * PULSE
    assert state.tick(6.9 + 5 * PULSE) == []
    effects = state.tick(7 + 5 * PULSE)
    assert DropNode(b"n1") in effects
    assert Happened(Status.NodeDisconnected, "10.0.0.1", 0, None, None) in effects


@pytest.mark.spec("S51", "S52")
def test_at_a_node_the_most_patient_of_its_computations_says_what_five_pulses_are() -> None:
    state = Scheduling(Rules(shared=True, pulse_interval=PULSE))
    state.node_joined(0, facts("n1"), 2, [])
    state.node_joined(0, facts("n2"), 2, [])
    for name, interval in (("a", 3 * PULSE), ("b", 2 * PULSE)):
        wishes = Allocations((NodeAllocation("10.0.0.1", cpus=1),))
        key = name.encode()
        state.submitted(0, ComputationRequest(key, b"client of " + key, name, wishes, None, interval))
        state.granted(0, b"n1", key, 1, 1)
    assert state.pulse_interval_with(b"client of b") == 2 * PULSE
    assert state.pulse_interval_with(b"n1") == 3 * PULSE
    assert state.pulse_interval_with(b"n2") == PULSE
    assert state.pulse_interval_with(b"somebody") is None
    assert dropped(state.tick(5 * PULSE)) == [b"n2"]
    assert dropped(state.tick(15 * PULSE - 0.1)) == []
    assert dropped(state.tick(15 * PULSE)) == [b"n1"]


def dropped(effects: list[Effect]) -> list[bytes]:
    return [effect.node_id for effect in effects if isinstance(effect, DropNode)]


def test_a_refusal_is_told_as_ignored_servers_and_the_node_is_asked_again_when_it_has_room() -> None:
    state = Scheduling()
    state.submitted(0, submission("a"))
    _, effects = state.node_joined(0, facts("n1"), 2, [])
    assert [effect.servers for effect in effects if isinstance(effect, AskGrant)] == [2]
    refused = state.refused(1, b"n1", b"a", [("10.0.0.1", 5001)])
    assert refused == [Happened(Status.ServerIgnore, "10.0.0.1", 5001, b"a", b"client of a")]
    assert state.tick(2) == []
    effects = state.room(3, b"n1", 1)
    assert [effect.servers for effect in effects if isinstance(effect, AskGrant)] == [1]


def test_what_a_node_gives_to_a_computation_that_was_withdrawn_meanwhile_is_asked_back() -> None:
    state = Scheduling()
    state.submitted(0, submission("a"))
    state.node_joined(0, facts("n1"), 2, [])
    assert AskRevoke(b"n1", b"a") not in state.withdrawn(1, b"a", b"client of a")
    assert state.granted(2, b"n1", b"a", 2, 0) == [AskRevoke(b"n1", b"a")]


def test_nobody_but_its_client_withdraws_a_computation_or_submits_it_again() -> None:
    state = Scheduling()
    state.submitted(0, submission("a"))
    assert state.withdrawn(1, b"a", b"somebody") == []
    with pytest.raises(ValueError, match="another client"):
        state.submitted(1, ComputationRequest(b"a", b"somebody", "a"))


def test_a_forged_ticket_of_the_future_or_one_that_is_held_is_worth_nothing() -> None:
    state = Scheduling(Rules(epoch=5))
    first, _ = state.submitted(0, submission("a"))
    forged, _ = state.submitted(0, ComputationRequest(b"b", b"x", "b", queue_entry=QueueEntry(9, 1)))
    doubled, _ = state.submitted(0, ComputationRequest(b"c", b"y", "c", queue_entry=first))
    assert [first, forged, doubled] == [QueueEntry(5, 1), QueueEntry(5, 2), QueueEntry(5, 3)]


@pytest.mark.spec("B19")
def test_after_a_restart_running_computations_keep_their_servers_and_the_queue_its_order() -> None:
    world = World()
    node = world.add_node(2)
    for name in "abc":
        in_world(world, name)
    world.deliver()
    world.attend(world.clients[b"a"])
    world.restart_scheduler()
    world.join(node)
    for back in (b"c", b"b", b"a"):
        world.come_back(world.clients[back])
    late = world.add_node(1)
    world.deliver()
    assert late.holding.free == 1, "nothing is granted for five pulses"
    assert set(node.holding.leases) == {b"a"}
    world.wait(5 * PULSE)
    world.deliver()
    assert set(late.holding.leases) == {b"a"}
    for expected in (b"b", b"c"):
        world.close(world.clients[world.turns[-1]])
        world.deliver()
        assert world.turns[-1] == expected


@pytest.mark.spec("B19")
def test_a_scheduler_that_is_new_grants_as_soon_as_a_node_has_joined() -> None:
    state = Scheduling(Rules(shared=True, settled_at=50))
    _, effects = state.submitted(0, submission("a"))
    assert effects == []
    _, effects = state.node_joined(1, facts("n1"), 2, [])
    assert [type(effect) for effect in effects if not isinstance(effect, Happened)] == [TellTurn, AskGrant]


@pytest.mark.spec("B19")
def test_leases_of_private_schedulers_are_not_taken_over() -> None:
    held = HeldLease(
        LeaseTerms(b"a", b"client", "a", QueueEntry(1, 1), b"key", 0.0, 10.0),
        2,
        b"old scheduler",
        shared=False,
        orphan=True,
    )
    for shared in (False, True):
        state = Scheduling(Rules(shared=shared))
        adopted, _ = state.node_joined(0, facts("n1"), 0, [held])
        assert adopted == []
        assert state.nodes[b"n1"].left == 0


def test_a_client_that_is_lost_while_it_runs_keeps_its_servers_until_the_nodes_say_that_it_is_gone() -> None:
    world = World()
    node = world.add_node(1)
    for name in "ab":
        in_world(world, name)
    world.deliver()
    world.attend(world.clients[b"a"])
    client = world.clients[b"a"].submission.client_id
    world.act(world.state.client_left(world.now, client, orderly=False))
    world.deliver()
    assert world.turns == [b"a"]
    world.end_lease(node, b"a", Over.CLIENT)
    world.deliver()
    assert world.turns == [b"a", b"b"]


def test_a_client_that_never_comes_to_its_servers_loses_them() -> None:
    world = World()
    node = world.add_node(1)
    in_world(world, "a")
    world.deliver()
    world.crash(world.clients[b"a"])
    assert node.holding.free == 0
    world.wait(5 * PULSE)
    assert node.holding.free == 1


def test_a_lease_that_was_released_is_not_given_to_the_same_computation_again() -> None:
    state = Scheduling()
    state.submitted(0, submission("a"))
    state.node_joined(0, facts("n1"), 2, [])
    (leased,) = state.granted(0, b"n1", b"a", 2, 0)
    assert isinstance(leased, TellLeased)
    assert state.freed(1, b"n1", Freed(b"a", 2, Over.RELEASED, 2)) == []


def test_a_thousand_nodes_that_join_cost_less_than_a_second() -> None:
    state = Scheduling()
    state.submitted(0, submission("a"))
    started = time.process_time()
    for number in range(1000):
        node = NodeFacts(b"%d" % number, f"n{number}", f"10.0.{number // 256}.{number % 256}", 1, 10, "Linux")
        _, effects = state.node_joined(0, node, 10, [])
        assert any(isinstance(effect, AskGrant) for effect in effects)
        state.granted(0, node.node_id, b"a", 10, 0)
    assert time.process_time() - started < 1


@pytest.mark.spec("B19")
@pytest.mark.parametrize(("client", "adopted"), [(b"client of a", [b"a"]), (b"somebody else", [])])
def test_a_lease_is_taken_over_for_the_client_that_it_was_granted_to_and_no_other(
    client: bytes, adopted: list[bytes]
) -> None:
    state = Scheduling(Rules(shared=True, settled_at=50))
    state.submitted(0, submission("a"))
    terms = LeaseTerms(b"a", client, "a", QueueEntry(1, 1), b"another key", 0.0, 10.0)
    held = HeldLease(terms, 2, b"old scheduler", shared=True, orphan=True)
    assert state.node_joined(1, facts("n1"), 0, [held])[0] == adopted
    claim = state.claims.get(b"a")
    assert claim is not None
    assert claim.running == bool(adopted)


@pytest.mark.spec("S104", "B07")
def test_each_computation_has_a_random_key_of_its_own() -> None:
    keys = set()
    for state in (Scheduling(), Scheduling()):
        for name in "abc":
            state.submitted(0, submission(name))
            claim = state.claims.get(name.encode())
            assert claim is not None
            keys.add(claim.terms.key)
    assert [len(key) for key in keys] == [32] * 6


@pytest.mark.spec("B19")
def test_a_scheduler_that_follows_another_waits_for_clients_even_if_no_node_reports_a_lease() -> None:
    state = Scheduling(Rules(shared=True, settled_at=50, restarted=True))
    state.node_joined(1, facts("n1"), 2, [])
    for name, number in (("b", 2), ("a", 1)):
        again = msgspec.structs.replace(submission(name), queue_entry=QueueEntry(0, number))
        _, effects = state.submitted(2, again)
        assert effects == []
    turns = [effect.computation for effect in state.tick(50) if isinstance(effect, TellTurn)]
    assert turns == [b"a"]


@pytest.mark.spec("B37")
def test_a_suspended_node_gives_no_servers_until_it_is_resumed() -> None:
    state = Scheduling()
    state.node_joined(0, facts("n1"), 2, [])
    state.rest(0, b"n1", rests=True)
    _, effects = state.submitted(1, submission("a"))
    assert [type(effect) for effect in effects if not isinstance(effect, Happened)] == [TellTurn]
    assert state.room(2, b"n1", 2) == []
    effects = state.rest(3, b"n1", rests=False)
    assert [effect.servers for effect in effects if isinstance(effect, AskGrant)] == [2]


@pytest.mark.fault("F26")
def test_after_a_pause_of_the_scheduler_nodes_have_a_pulse_to_be_heard() -> None:
    state = Scheduling(Rules(pulse_interval=PULSE))
    state.node_joined(0, facts("n1"), 2, [])
    now = 100 * PULSE
    state.stalled(now)
    assert state.tick(now) == []
    assert state.tick(now + 0.9 * PULSE) == []
    dropped = [type(effect) for effect in state.tick(now + 1.1 * PULSE)]
    assert DropNode in dropped


@pytest.mark.spec("S57", "B19")
def test_an_ended_computation_that_a_node_reports_again_gets_nothing_that_other_nodes_give_late() -> None:
    world = World()
    world.add_node(1)
    in_world(world, "a")
    first = world.nodes[b"node1"]
    first.inbox.popleft()()  # the node gives its server; its answer gets lost
    world.add_node(1)
    world.close(world.clients[b"a"])
    world.lose_link(first)
    world.join(first)
    world.state.validate()
    second = world.nodes[b"node2"]
    second.inbox.popleft()()
    second.outbox.popleft()()
    world.state.validate()
    assert b"node2" not in world.clients[b"a"].leased
    second.inbox.popleft()()  # the request to take it back
    assert second.holding.free == 1


@pytest.mark.spec("B19")
def test_a_client_that_lost_its_turn_learns_that_a_node_still_has_its_servers() -> None:
    world = World()
    node = world.add_node(1)
    for name in "ab":
        in_world(world, name)
    node.inbox.popleft()()  # the node gives its server to the first one; its answer gets lost
    world.lose_link(node)
    first = world.clients[b"a"]
    world.act(world.state.client_left(world.now, first.submission.client_id, orderly=False))
    world.come_back(first)
    assert world.turns == [b"a", b"b"]
    first.running = False
    world.join(node)
    assert first.running
    assert first.leased == {node.node_id}
