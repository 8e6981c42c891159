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
from discoro_trio.client._placement import Placement
from discoro_trio.client._places import Node, Places, SetUpFailure

if TYPE_CHECKING:
    from discoro_trio.client._server import Server


def placement_of(nodes: dict[bytes, int]) -> Placement:
    """Make a placement with so many servers at each node; the server's id is the node's and its number."""
    placement = Placement()
    for node, count in nodes.items():
        for number in range(count):
            placement.add(node, server_id(node, number))
    return placement


def server_id(node: bytes, number: int) -> bytes:
    return node + b"%d" % number


def place(placement: Placement, node: bytes | None = None) -> bytes:
    server = placement.least(node)
    assert server is not None
    placement.change(server, 1)
    return server


# --- loads


@pytest.mark.spec("S63")
def test_the_least_loaded_server_of_the_least_loaded_node_is_next() -> None:
    placement = placement_of({b"a": 2, b"b": 2})
    placement.change(b"a0", 3)
    placement.change(b"b0", 1)
    assert placement.least() == b"b1"
    placement.change(b"b1", 4)
    assert placement.least() == b"a1"


@pytest.mark.spec("S63")
def test_a_node_s_load_is_that_of_its_servers_on_average() -> None:
    placement = placement_of({b"small": 1, b"large": 4})
    for _ in range(50):
        place(placement)
    assert placement.load(b"small0") == 10
    assert {placement.load(server_id(b"large", number)) for number in range(4)} == {10}


@pytest.mark.spec("S60")
def test_at_one_node_the_least_loaded_of_its_servers_is_next() -> None:
    placement = placement_of({b"a": 2, b"b": 1})
    assert sorted(place(placement, b"a") for _ in range(4)) == [b"a0", b"a0", b"a1", b"a1"]
    assert placement.least(b"unknown") is None


def test_without_servers_there_is_nowhere() -> None:
    placement = placement_of({b"a": 1})
    placement.remove(b"a0")
    assert placement.least() is None
    assert placement.nodes() == []
    placement.change(b"a0", -1)


def test_a_suspended_node_gets_nothing_until_it_is_resumed() -> None:
    placement = placement_of({b"a": 1, b"b": 1})
    placement.suspend(b"a")
    assert {place(placement) for _ in range(3)} == {b"b0"}
    placement.change(b"a0", 1)
    placement.add(b"a", b"a1")
    assert placement.least(b"a") is None
    placement.remove(b"b0")
    assert placement.least() is None
    placement.resume(b"a")
    assert placement.least() == b"a1"


def test_a_node_stays_suspended_while_it_has_no_servers() -> None:
    placement = placement_of({b"a": 1})
    placement.suspend(b"a")
    placement.remove(b"a0")
    placement.add(b"a", b"a1")
    assert placement.least() is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "place", "end", "suspend", "resume"]), st.integers(0, 2), st.integers(0, 2)
    ),
    max_size=60,
)


@given(STEPS)
def test_it_agrees_with_counting_everything_each_time(steps: list[tuple[str, int, int]]) -> None:
    placement, loads, suspended = Placement(), dict[bytes, int](), set[bytes]()
    for step, node_number, number in steps:
        node = b"n%d" % node_number
        server = server_id(node, number)
        if step == "add" and server not in loads:
            placement.add(node, server)
            loads[server] = 0
        elif step == "remove":
            placement.remove(server)
            loads.pop(server, None)
        elif step == "place" and server in loads:
            placement.change(server, 1)
            loads[server] += 1
        elif step == "end" and loads.get(server):
            placement.change(server, -1)
            loads[server] -= 1
        elif step == "suspend":
            placement.suspend(node)
            suspended.add(node)
        elif step == "resume":
            placement.resume(node)
            suspended.discard(node)
        assert placement.least() in best(loads, suspended)


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
    placement = placement_of({b"%d-" % node: 8 for node in range(servers // 8 or 1)})
    busy = [place(placement) for _ in range(servers)]
    ending = random.Random(1).choices(range(servers), k=jobs)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        for index in ending:
            placement.change(busy[index], -1)
            busy[index] = place(placement)
    finally:
        sys.setprofile(None)
    return calls


def test_10_000_servers_take_no_more_work_than_16() -> None:
    few, many = calls_for_placing(16), calls_for_placing(10_000)
    assert many < 2 * few


# --- what a `where` means


def add_node(places: Places, name: str, addr: str, *, seats: int | None, servers: int) -> Node:
    node = Node(name.encode(), name, Location(addr, 1), link=None)  # type: ignore[arg-type]
    places.nodes[node.node_id] = node
    node.seats = seats
    for seat in range(1, servers + 1):
        places.add(server_at(node, seat))
    return node


def server_at(node: Node, seat: int) -> Server:
    server: Any = SimpleNamespace(
        server_id=node.node_id + b"%d" % seat,
        node_id=node.node_id,
        seat=seat,
        location=Location(node.location.addr, 1000 + seat),
        host=SimpleNamespace(submitted=0),
    )
    found: Server = server
    return found


def locations(servers: list[Server]) -> list[str]:
    return sorted(str(server.location) for server in servers)


def settled_places() -> Places:
    places = Places()
    places.told([])
    return places


def two_nodes() -> Places:
    places = settled_places()
    add_node(places, "north", "10.0.0.1", seats=2, servers=2)
    add_node(places, "south", "10.0.0.2", seats=1, servers=1)
    return places


@pytest.mark.spec("S60", "S61")
def test_a_place_is_a_node_s_address_or_name_or_a_server_s_location() -> None:
    places = two_nodes()
    places.placement.change(b"north1", 1)
    for where, expected in (
        ("10.0.0.1", "10.0.0.1:1002"),
        ("north", "10.0.0.1:1002"),
        (Location("10.0.0.1", 1001), "10.0.0.1:1001"),
        ("south", "10.0.0.2:1001"),
    ):
        server = places.pick(where)
        assert server is not None
        assert str(server.location) == expected


@pytest.mark.spec("S60")
def test_an_address_of_two_nodes_means_the_least_loaded_server_of_both() -> None:
    places = settled_places()
    add_node(places, "one", "10.0.0.1", seats=1, servers=1)
    add_node(places, "two", "10.0.0.1", seats=1, servers=1)
    places.placement.change(b"one1", 1)
    server = places.pick("10.0.0.1")
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
    places = settled_places()
    assert places.pick("north") is None
    assert places.pick(Location("10.0.0.1", 1001)) is None
    assert places.each("north") == []
    with pytest.raises(UnknownLocation, match="none"):
        places.known("north")


@pytest.mark.spec("S62", "S64", "S65", "S66")
def test_each_means_nodes_or_servers_or_those_of_one_node() -> None:
    places = two_nodes()
    places.placement.change(b"north1", 1)
    assert locations(places.each("server")) == ["10.0.0.1:1001", "10.0.0.1:1002", "10.0.0.2:1001"]
    assert locations(places.each("node")) == ["10.0.0.1:1002", "10.0.0.2:1001"]
    assert locations(places.each("10.0.0.1")) == ["10.0.0.1:1001", "10.0.0.1:1002"]
    assert locations(places.each(Location("10.0.0.2", 1001))) == ["10.0.0.2:1001"]


@pytest.mark.spec("S62")
def test_each_waits_for_the_first_servers_of_all_nodes_and_not_for_replacements() -> None:
    places = two_nodes()
    late = add_node(places, "late", "10.0.0.3", seats=None, servers=0)
    assert places.each("server") == places.each("node") == places.each("late") == []
    assert len(places.each("north")) == 2, "another node's servers need not be awaited"
    late.seats = 2
    late.had_first(b"lost before it was ready")
    assert places.each("server") == []
    places.add(server_at(late, 1))
    assert len(places.each("server")) == 4
    places.withdraw(places.servers[b"late1"])
    assert len(places.each("server")) == 3


@pytest.mark.spec("S61", "S62")
def test_nodes_that_the_scheduler_has_given_are_awaited() -> None:
    places = Places()
    add_node(places, "north", "10.0.0.1", seats=1, servers=1)
    south = Node(b"south", "south", Location("10.0.0.2", 1), link=None)  # type: ignore[arg-type]
    assert places.each("server") == [], "the scheduler has not said yet which there are"
    places.told([b"north", b"south", b"lost"])
    assert places.each("node") == []
    assert places.pick("south") is None
    assert places.pick(Location("10.0.0.2", 1001)) is None
    assert len(places.each("north")) == 1
    places.left(b"lost")
    places.came(south)
    south.seats = 1
    assert places.each("node") == []
    places.add(server_at(south, 1))
    assert len(places.each("node")) == 2
    with pytest.raises(UnknownLocation):
        places.pick("lost")


@pytest.mark.spec("S62")
def test_a_node_that_is_lost_before_the_scheduler_has_said_so_is_not_awaited() -> None:
    places = Places()
    add_node(places, "north", "10.0.0.1", seats=1, servers=1)
    places.left(b"south")
    places.told([b"north", b"south"])
    assert len(places.each("server")) == 1


@pytest.mark.spec("S62")
def test_each_leaves_out_suspended_nodes() -> None:
    places = two_nodes()
    places.placement.suspend(b"north")
    assert locations(places.each("server")) == locations(places.each("node")) == ["10.0.0.2:1001"]
    assert places.each("north") == []
    assert places.pick("north") is None
    assert places.pick(Location("10.0.0.1", 1001)) is None


def failure(stage: str = "server_setup") -> SetUpFailure:
    return SetUpFailure(stage, "north server 1 (10.0.0.1:1001)", OSError("no disk"))


@pytest.mark.spec("B10")
def test_where_the_set_up_failed_everywhere_nobody_waits() -> None:
    places = settled_places()
    node = add_node(places, "north", "10.0.0.1", seats=2, servers=0)
    node.fail(1, b"first", failure())
    assert places.failure() is None, "the other one may come"
    assert places.pick("north") is None
    node.fail(2, b"second", failure())
    assert places.failure() is not None
    with pytest.raises(DiscoroError, match="server_setup failed at north server 1") as caught:
        places.pick("north")
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.spec("B10")
def test_a_failed_node_setup_spoils_all_servers_of_its_node_and_of_no_other() -> None:
    places = two_nodes()
    spoilt = add_node(places, "spoilt", "10.0.0.3", seats=2, servers=0)
    spoilt.fail(1, b"first", failure("node_setup"))
    assert places.failure() is None
    assert len(places.each("server")) == 3
    with pytest.raises(DiscoroError, match="node_setup failed"):
        places.each("spoilt")


@pytest.mark.spec("B10")
def test_a_replacement_whose_set_up_succeeds_makes_a_failure_good() -> None:
    places = settled_places()
    node = add_node(places, "north", "10.0.0.1", seats=1, servers=0)
    node.fail(1, b"first", failure())
    places.add(server_at(node, 1))
    assert places.failure() is None
    assert places.pick("north") is not None


def test_lost_servers_are_counted_with_what_was_started_there() -> None:
    places = two_nodes()
    server = places.servers[b"south1"]
    server.host.submitted = 7  # type: ignore[misc]
    for _ in range(2):
        places.withdraw(server)
        places.remove(server)
    assert (places.servers_lost, places.submitted_before) == (1, 7)
