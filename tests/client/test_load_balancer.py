"""Where coroutines go, decided without a network: which server is next, and what a `where` means."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoro_trio import DiscoroError, Location, UnknownLocation
from discoro_trio._client._load_balancer import LoadBalancer
from discoro_trio._client._topology import LeasedNode, SetUpFailure, Topology

if TYPE_CHECKING:
    from discoro_trio._client._server import LeasedServer


def placement_of(nodes: dict[bytes, int]) -> LoadBalancer:
    """Make a placement with so many servers at each node; the server's id is the node's and its number."""
    load_balancer = LoadBalancer()
    for node, count in nodes.items():
        for number in range(count):
            load_balancer.add(node, server_id(node, number))
    return load_balancer


def server_id(node: bytes, number: int) -> bytes:
    return node + b"%d" % number


def place(load_balancer: LoadBalancer, node: bytes | None = None) -> bytes:
    server = load_balancer.least(node)
    assert server is not None
    load_balancer.change(server, 1)
    return server


# --- loads


@pytest.mark.spec("S63")
def test_the_least_loaded_server_of_the_least_loaded_node_is_next() -> None:
    load_balancer = placement_of({b"a": 2, b"b": 2})
    load_balancer.change(b"a0", 3)
    load_balancer.change(b"b0", 1)
    assert load_balancer.least() == b"b1"
    load_balancer.change(b"b1", 4)
    assert load_balancer.least() == b"a1"


@pytest.mark.spec("S63")
def test_a_node_s_load_is_that_of_its_servers_on_average() -> None:
    load_balancer = placement_of({b"small": 1, b"large": 4})
    for _ in range(50):
        place(load_balancer)
    assert load_balancer.load(b"small0") == 10
    assert {load_balancer.load(server_id(b"large", number)) for number in range(4)} == {10}


@pytest.mark.spec("S60")
def test_at_one_node_the_least_loaded_of_its_servers_is_next() -> None:
    load_balancer = placement_of({b"a": 2, b"b": 1})
    assert sorted(place(load_balancer, b"a") for _ in range(4)) == [b"a0", b"a0", b"a1", b"a1"]
    assert load_balancer.least(b"unknown") is None


def test_without_servers_there_is_nowhere() -> None:
    load_balancer = placement_of({b"a": 1})
    load_balancer.remove(b"a0")
    assert load_balancer.least() is None
    assert load_balancer.nodes() == []
    load_balancer.change(b"a0", -1)


def test_a_suspended_node_gets_nothing_until_it_is_resumed() -> None:
    load_balancer = placement_of({b"a": 1, b"b": 1})
    load_balancer.suspend(b"a")
    assert {place(load_balancer) for _ in range(3)} == {b"b0"}
    load_balancer.change(b"a0", 1)
    load_balancer.add(b"a", b"a1")
    assert load_balancer.least(b"a") is None
    load_balancer.remove(b"b0")
    assert load_balancer.least() is None
    load_balancer.resume(b"a")
    assert load_balancer.least() == b"a1"


def test_a_node_stays_suspended_while_it_has_no_servers() -> None:
    load_balancer = placement_of({b"a": 1})
    load_balancer.suspend(b"a")
    load_balancer.remove(b"a0")
    load_balancer.add(b"a", b"a1")
    assert load_balancer.least() is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "place", "end", "suspend", "resume"]), st.integers(0, 2), st.integers(0, 2)
    ),
    max_size=60,
)


@given(STEPS)
def test_it_agrees_with_counting_everything_each_time(steps: list[tuple[str, int, int]]) -> None:
    load_balancer, loads, suspended = LoadBalancer(), dict[bytes, int](), set[bytes]()
    for step, node_number, number in steps:
        node = b"n%d" % node_number
        server = server_id(node, number)
        if step == "add" and server not in loads:
            load_balancer.add(node, server)
            loads[server] = 0
        elif step == "remove":
            load_balancer.remove(server)
            loads.pop(server, None)
        elif step == "place" and server in loads:
            load_balancer.change(server, 1)
            loads[server] += 1
        elif step == "end" and loads.get(server):
            load_balancer.change(server, -1)
            loads[server] -= 1
        elif step == "suspend":
            load_balancer.suspend(node)
            suspended.add(node)
        elif step == "resume":
            load_balancer.resume(node)
            suspended.discard(node)
        assert load_balancer.least() in best(loads, suspended)


def best(loads: dict[bytes, int], suspended: set[bytes]) -> set[bytes | None]:
    """Find by counting which servers may be next."""
    nodes: dict[bytes, dict[bytes, int]] = {}
    for server, load in loads.items():
        nodes.setdefault(server[:2], {})[server] = load
    averages = {node: sum(of.values()) / len(of) for node, of in nodes.items() if node not in suspended}
    least = [nodes[node] for node, average in averages.items() if average == min(averages.values())]
    return {server for of in least for server, load in of.items() if load == min(of.values())} or {None}


def calls_for_placing(servers: int, jobs: int = 2000) -> int:
    """Count the calls that placing makes, with as many jobs under way as there are servers.

    Calls and not seconds: they are the same on a busy machine.
    """
    load_balancer = placement_of({b"%d-" % node: 8 for node in range(servers // 8 or 1)})
    busy = [place(load_balancer) for _ in range(servers)]
    ending = random.Random(1).choices(range(servers), k=jobs)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        for index in ending:
            load_balancer.change(busy[index], -1)
            busy[index] = place(load_balancer)
    finally:
        sys.setprofile(None)
    return calls


def test_10_000_servers_take_no_more_work_than_16() -> None:
    few, many = calls_for_placing(16), calls_for_placing(10_000)
    assert many < 2 * few


# --- what a `where` means


def add_node(topology: Topology, name: str, addr: str, *, slots: int | None, servers: int) -> LeasedNode:
    node = LeasedNode(name.encode(), name, Location(addr, 1), link=None)  # type: ignore[arg-type]
    topology.nodes[node.node_id] = node
    node.slots = slots
    for slot in range(1, servers + 1):
        topology.add(server_at(node, slot))
    return node


def server_at(node: LeasedNode, slot: int) -> LeasedServer:
    server: Any = SimpleNamespace(
        server_id=node.node_id + b"%d" % slot,
        node_id=node.node_id,
        slot=slot,
        location=Location(node.location.addr, 1000 + slot),
        host=SimpleNamespace(submitted=0),
    )
    found: LeasedServer = server
    return found


def locations(servers: list[LeasedServer]) -> list[str]:
    return sorted(str(server.location) for server in servers)


def settled_places() -> Topology:
    topology = Topology()
    topology.told([])
    return topology


def two_nodes() -> Topology:
    topology = settled_places()
    add_node(topology, "north", "10.0.0.1", slots=2, servers=2)
    add_node(topology, "south", "10.0.0.2", slots=1, servers=1)
    return topology


@pytest.mark.spec("S60", "S61")
def test_a_place_is_a_node_s_address_or_name_or_a_server_s_location() -> None:
    topology = two_nodes()
    topology.load_balancer.change(b"north1", 1)
    for where, expected in (
        ("10.0.0.1", "10.0.0.1:1002"),
        ("north", "10.0.0.1:1002"),
        (Location("10.0.0.1", 1001), "10.0.0.1:1001"),
        ("south", "10.0.0.2:1001"),
    ):
        server = topology.pick(where)
        assert server is not None
        assert str(server.location) == expected


@pytest.mark.spec("S60")
def test_an_address_of_two_nodes_means_the_least_loaded_server_of_both() -> None:
    topology = settled_places()
    add_node(topology, "one", "10.0.0.1", slots=1, servers=1)
    add_node(topology, "two", "10.0.0.1", slots=1, servers=1)
    topology.load_balancer.change(b"one1", 1)
    server = topology.pick("10.0.0.1")
    assert server is not None
    assert server.server_id == b"two1"


@pytest.mark.spec("S61")
@pytest.mark.parametrize("where", ["nowhere", Location("10.0.0.9", 1), "node"])
def test_an_unknown_place_is_an_error_that_lists_the_known_ones(where: Location | str) -> None:
    with pytest.raises(UnknownLocation) as caught:
        two_nodes().pick(where)
    for known in ("north", "10.0.0.1:1001", "10.0.0.1:1002", "south", "10.0.0.2:1001", str(where)):
        assert known in str(caught.value)


@pytest.mark.spec("S61")
def test_while_there_is_no_server_at_all_no_place_is_unknown_yet() -> None:
    topology = settled_places()
    assert topology.pick("north") is None
    assert topology.pick(Location("10.0.0.1", 1001)) is None
    assert topology.each("north") == []
    with pytest.raises(UnknownLocation, match="none"):
        topology.known("north")


@pytest.mark.spec("S62", "S64", "S65", "S66")
def test_each_means_nodes_or_servers_or_those_of_one_node() -> None:
    topology = two_nodes()
    topology.load_balancer.change(b"north1", 1)
    assert locations(topology.each("server")) == ["10.0.0.1:1001", "10.0.0.1:1002", "10.0.0.2:1001"]
    assert locations(topology.each("node")) == ["10.0.0.1:1002", "10.0.0.2:1001"]
    assert locations(topology.each("10.0.0.1")) == ["10.0.0.1:1001", "10.0.0.1:1002"]
    assert locations(topology.each(Location("10.0.0.2", 1001))) == ["10.0.0.2:1001"]


@pytest.mark.spec("S62")
def test_each_waits_for_the_first_servers_of_all_nodes_and_not_for_replacements() -> None:
    topology = two_nodes()
    late = add_node(topology, "late", "10.0.0.3", slots=None, servers=0)
    assert topology.each("server") == topology.each("node") == topology.each("late") == []
    assert len(topology.each("north")) == 2, "another node's servers need not be awaited"
    late.slots = 2
    late.had_first(b"lost before it was ready")
    assert topology.each("server") == []
    topology.add(server_at(late, 1))
    assert len(topology.each("server")) == 4
    topology.withdraw(topology.servers[b"late1"])
    assert len(topology.each("server")) == 3


@pytest.mark.spec("S61", "S62")
def test_nodes_that_the_scheduler_has_given_are_awaited() -> None:
    topology = Topology()
    add_node(topology, "north", "10.0.0.1", slots=1, servers=1)
    south = LeasedNode(b"south", "south", Location("10.0.0.2", 1), link=None)  # type: ignore[arg-type]
    assert topology.each("server") == [], "the scheduler has not said yet which there are"
    topology.told([b"north", b"south", b"lost"])
    assert topology.each("node") == []
    assert topology.pick("south") is None
    assert topology.pick(Location("10.0.0.2", 1001)) is None
    assert len(topology.each("north")) == 1
    topology.left(b"lost")
    topology.came(south)
    south.slots = 1
    assert topology.each("node") == []
    topology.add(server_at(south, 1))
    assert len(topology.each("node")) == 2
    with pytest.raises(UnknownLocation):
        topology.pick("lost")


@pytest.mark.spec("S62")
def test_a_node_that_is_lost_before_the_scheduler_has_said_so_is_not_awaited() -> None:
    topology = Topology()
    add_node(topology, "north", "10.0.0.1", slots=1, servers=1)
    topology.left(b"south")
    topology.told([b"north", b"south"])
    assert len(topology.each("server")) == 1


@pytest.mark.spec("S62")
def test_each_leaves_out_suspended_nodes() -> None:
    topology = two_nodes()
    topology.load_balancer.suspend(b"north")
    assert locations(topology.each("server")) == locations(topology.each("node")) == ["10.0.0.2:1001"]
    assert topology.each("north") == []
    assert topology.pick("north") is None
    assert topology.pick(Location("10.0.0.1", 1001)) is None


def failure(stage: str = "server_setup") -> SetUpFailure:
    return SetUpFailure(stage, "north server 1 (10.0.0.1:1001)", OSError("no disk"))


@pytest.mark.spec("B10")
def test_where_the_set_up_failed_everywhere_nobody_waits() -> None:
    topology = settled_places()
    node = add_node(topology, "north", "10.0.0.1", slots=2, servers=0)
    node.fail(1, b"first", failure())
    assert topology.failure() is None, "the other one may come"
    assert topology.pick("north") is None
    node.fail(2, b"second", failure())
    assert topology.failure() is not None
    with pytest.raises(DiscoroError, match="server_setup failed at north server 1") as caught:
        topology.pick("north")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.spec("B10")
def test_a_failed_node_setup_spoils_all_servers_of_its_node_and_of_no_other() -> None:
    topology = two_nodes()
    spoilt = add_node(topology, "spoilt", "10.0.0.3", slots=2, servers=0)
    spoilt.fail(1, b"first", failure("node_setup"))
    assert topology.failure() is None
    assert len(topology.each("server")) == 3
    with pytest.raises(DiscoroError, match="node_setup failed"):
        topology.each("spoilt")


@pytest.mark.spec("B10")
def test_a_replacement_whose_set_up_succeeds_makes_a_failure_good() -> None:
    topology = settled_places()
    node = add_node(topology, "north", "10.0.0.1", slots=1, servers=0)
    node.fail(1, b"first", failure())
    topology.add(server_at(node, 1))
    assert topology.failure() is None
    assert topology.pick("north") is not None


def test_lost_servers_are_counted_with_what_was_started_there() -> None:
    topology = two_nodes()
    server = topology.servers[b"south1"]
    server.host.submitted = 7  # type: ignore[misc]
    for _ in range(2):
        topology.withdraw(server)
        topology.remove(server)
    assert (topology.servers_lost, topology.submitted_before) == (1, 7)
