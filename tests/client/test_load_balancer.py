"""Where coroutines go, decided without a network: which server is next, and what a `where` means."""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoro_trio import DiscoroError, Location, UnknownLocation
from discoro_trio._client._load_balancer import LATE, LONG, LoadBalancer, ServerLoad
from discoro_trio._client._topology import LeasedNode, SetUpFailure, Topology
from discoro_trio._process.execution._begun_reports import hold_level

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def place(load_balancer: LoadBalancer, node: bytes | None = None, times: int = 1) -> bytes | None:
    """Start coroutines that begin at once where the load balancer says; give the last server."""
    server = None
    for _ in range(times):
        chosen = load_balancer.pick(0.0, node)
        if chosen is None:
            return None
        load_balancer.begun(chosen, load_balancer.sent(chosen, 0.0), 0, 0.0)
        server = chosen.server
    return server


def load(load_balancer: LoadBalancer, server: bytes, count: int) -> None:
    """Let coroutines run at a server."""
    there = load_balancer.places[server]
    for _ in range(count):
        load_balancer.begun(there, load_balancer.sent(there, 0.0), 0, 0.0)


# --- loads


@pytest.mark.spec("S63")
def test_the_least_loaded_server_of_the_least_loaded_node_is_next() -> None:
    load_balancer = placement_of({b"a": 2, b"b": 2})
    load(load_balancer, b"a0", 3)
    load(load_balancer, b"b0", 1)
    assert place(load_balancer) == b"b1"
    load(load_balancer, b"b1", 3)
    assert place(load_balancer) == b"a1"


@pytest.mark.spec("S63")
def test_a_node_s_load_is_that_of_its_servers_on_average() -> None:
    load_balancer = placement_of({b"small": 1, b"large": 4})
    place(load_balancer, times=50)
    assert load_balancer.load(b"small0") == 10
    assert {load_balancer.load(server_id(b"large", number)) for number in range(4)} == {10}


@pytest.mark.spec("S60")
def test_at_one_node_the_least_loaded_of_its_servers_is_next() -> None:
    load_balancer = placement_of({b"a": 2, b"b": 1})
    assert sorted(str(place(load_balancer, b"a")) for _ in range(4)) == ["b'a0'", "b'a0'", "b'a1'", "b'a1'"]
    assert place(load_balancer, b"unknown") is None


def test_without_servers_there_is_nowhere() -> None:
    load_balancer = placement_of({b"a": 1})
    gone = load_balancer.places[b"a0"]
    ahead = load_balancer.sent(gone, 0.0)
    load_balancer.remove(b"a0")
    assert load_balancer.pick(0.0) is None
    assert load_balancer.nodes() == []
    load_balancer.begun(gone, ahead, 0, 0.0)
    load_balancer.ended(gone)
    load_balancer.returned(gone)
    assert not load_balancer.waits


def test_a_suspended_node_gets_nothing_until_it_is_resumed() -> None:
    load_balancer = placement_of({b"a": 1, b"b": 1})
    load_balancer.suspend(b"a")
    assert {place(load_balancer) for _ in range(3)} == {b"b0"}
    load(load_balancer, b"a0", 1)
    load_balancer.add(b"a", b"a1")
    assert place(load_balancer, b"a") is None
    load_balancer.remove(b"b0")
    assert place(load_balancer) is None
    load_balancer.resume(b"a")
    assert place(load_balancer) == b"a1"


def test_a_node_stays_suspended_while_it_has_no_servers() -> None:
    load_balancer = placement_of({b"a": 1})
    load_balancer.suspend(b"a")
    load_balancer.remove(b"a0")
    load_balancer.add(b"a", b"a1")
    assert place(load_balancer) is None


def test_a_reserved_server_gets_nothing_until_it_is_released() -> None:
    load_balancer = placement_of({b"a": 2})
    load_balancer.reserve(b"a0")
    assert {place(load_balancer) for _ in range(3)} == {b"a1"}
    assert load_balancer.servers() == load_balancer.servers(b"a") == [b"a1"]
    load_balancer.release(b"a0")
    assert place(load_balancer) == b"a0"


# --- windows


def run_some(load_balancer: LoadBalancer, seconds: float, now: float, *, plain: bool = False) -> None:
    """Fill the window of a server with starts that hold it for some seconds each."""
    there = load_balancer.pick(now, plain=plain)
    assert there is not None
    batch = [load_balancer.sent(there, now, plain=plain)]
    while load_balancer.takes_more(there, now, plain=plain):
        batch.append(load_balancer.sent(there, now, plain=plain))
    for ahead in batch:
        load_balancer.begun(there, ahead, hold_level(seconds), now, plain=plain)
        load_balancer.ended(there)


@pytest.mark.spec("B26")
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("seconds", "expected"), [(0.00001, 128), (0.0001, 32), (0.001, 4), (0.003, 1), (2.0, 1)])
def test_a_window_holds_about_five_milliseconds_of_work(seconds: float, expected: int, *, plain: bool) -> None:
    load_balancer = placement_of({b"a": 1})
    for number in range(40):
        run_some(load_balancer, seconds, number * 0.001, plain=plain)
    assert load_balancer.places[b"a0"].lanes[plain].window == expected


@pytest.mark.spec("B26")
def test_a_window_does_not_grow_for_starts_of_which_no_further_one_waits() -> None:
    load_balancer = placement_of({b"a": 1})
    there = load_balancer.places[b"a0"]
    for number in range(9):
        ahead = load_balancer.sent(there, number * 0.001)
        load_balancer.begun(there, ahead, 0, number * 0.001, more=False)
    assert there.lanes[0].window == 1


@pytest.mark.spec("B26")
def test_starts_that_take_long_shut_the_window_before_more_are_sent_and_so_does_a_pause() -> None:
    load_balancer = placement_of({b"a": 1})
    there = load_balancer.places[b"a0"]
    for number in range(9):
        run_some(load_balancer, 0.00001, number * 0.001)
    window = there.lanes[0].window
    assert window > 8
    batch = [load_balancer.sent(there, 0.009) for _ in range(window)]
    while len(batch) > 1:
        load_balancer.begun(there, batch.pop(), hold_level(0.5), 0.01)
        assert not load_balancer.takes_more(there, 0.01, plain=False)
    assert there.lanes[0].window == 1
    load_balancer.begun(there, batch.pop(), 0, 0.01)
    for number in range(9):
        run_some(load_balancer, 0.00001, 0.01 + number * 0.001)
    load_balancer.sent(there, 0.2)
    assert there.lanes[0].window == 1


@pytest.mark.spec("B26")
def test_a_server_where_a_start_waits_too_long_gets_no_more_however_little_else_runs_there() -> None:
    load_balancer = placement_of({b"a": 2})
    for number in range(12):
        run_some(load_balancer, 0.00001, number * 0.001)
    blocked, free = load_balancer.places[b"a0"], load_balancer.places[b"a1"]
    assert blocked.lanes[0].window > 2
    load(load_balancer, b"a1", 1000)
    ahead = load_balancer.sent(blocked, 0.012)
    assert load_balancer.pick(0.0121) is blocked
    assert load_balancer.pick(0.04) is free
    assert list(load_balancer.late(0.04)) == [blocked]
    assert not load_balancer.takes_more(blocked, 0.04, plain=False)
    load_balancer.begun(blocked, ahead, 7, 1.0)
    assert load_balancer.pick(1.0) is blocked
    assert list(load_balancer.late(1.0)) == []


def send_to_all(load_balancer: LoadBalancer) -> ServerLoad:
    """Send a start to each server; return the server that reports first."""
    for _ in load_balancer.places:
        chosen = load_balancer.pick(0.0)
        assert chosen is not None
        load_balancer.sent(chosen, 0.0)
    return next(iter(load_balancer.places.values()))


def fill(load_balancer: LoadBalancer, place: ServerLoad, now: float) -> None:
    """Begin starts at a server as long as it takes further ones; 100 at most."""
    load_balancer.begun(place, 1, 0, now)
    while load_balancer.takes_more(place, now, plain=False) and place.load < 100:
        load_balancer.begun(place, load_balancer.sent(place, now), 0, now)


@pytest.mark.spec("B26")
def test_the_server_that_reports_first_does_not_get_all_that_begins_at_once() -> None:
    load_balancer = placement_of({b"a": 4})
    first = send_to_all(load_balancer)
    fill(load_balancer, first, 0.001)
    assert 1 < first.load < 6
    assert load_balancer.pick(0.001) is None
    for place in load_balancer.places.values():
        if place is not first:
            load_balancer.begun(place, 1, 0, 0.002)
    for _ in range(4 * 50 - int(load_balancer.total())):
        chosen = load_balancer.pick(0.003)
        assert chosen is not None
        load_balancer.begun(chosen, load_balancer.sent(chosen, 0.003), 0, 0.003)
    assert {place.load for place in load_balancer.places.values()} == {50}


@pytest.mark.spec("B26")
@pytest.mark.parametrize("others", ["late", "gone", "suspended", "reserved"])
def test_a_server_with_much_load_gets_more_if_the_others_take_nothing(others: str) -> None:
    load_balancer = placement_of({b"a": 1, b"b": 2})
    first = send_to_all(load_balancer)
    fill(load_balancer, first, 0.001)
    assert load_balancer.pick(0.001) is None
    for server in (b"b0", b"b1"):
        if others == "late":
            load_balancer.leave_out(load_balancer.places[server])
        elif others == "gone":
            load_balancer.remove(server)
        elif others == "reserved":
            load_balancer.reserve(server)
        else:
            load_balancer.suspend(b"b")
    for _ in range(100):
        assert load_balancer.pick(0.001) is first
        load_balancer.begun(first, load_balancer.sent(first, 0.001), 0, 0.001)


@pytest.mark.spec("B26")
def test_plain_functions_that_wait_do_not_hold_async_ones_back_but_a_blocked_server_does() -> None:
    load_balancer = placement_of({b"a": 1})
    there = load_balancer.places[b"a0"]
    assert load_balancer.pick(0.0, plain=True) is there
    load_balancer.sent(there, 0.0, plain=True)
    assert load_balancer.pick(0.001, plain=True) is None
    assert load_balancer.pick(0.001) is there
    ahead = load_balancer.sent(there, 0.001)
    assert load_balancer.pick(0.002) is None
    load_balancer.begun(there, 1, 0, 0.002, plain=True)
    assert load_balancer.pick(0.002, plain=True) is None, "async code blocks the server"
    load_balancer.begun(there, ahead, 7, 0.003)
    assert load_balancer.pick(0.003, plain=True) is there


def test_starts_that_were_taken_back_leave_no_load() -> None:
    load_balancer = placement_of({b"a": 1})
    there = load_balancer.places[b"a0"]
    load_balancer.pick(0.0, plain=True)
    load_balancer.sent(there, 0.0)
    load_balancer.sent(there, 0.0, plain=True)
    load_balancer.returned(there)
    assert load_balancer.waits
    load_balancer.returned(there, plain=True)
    assert (load_balancer.load(b"a0"), load_balancer.waits) == (0, False)


# --- whatever happens


class Model:
    """What is at one server, counted anew each time."""

    def __init__(self) -> None:
        self.waiting: dict[bool, list[int]] = {False: [], True: []}
        self.running = 0

    @property
    def load(self) -> int:
        return self.running + sum(map(len, self.waiting.values()))


KINDS = (
    *("add", "remove", "suspend", "resume", "reserve", "release", "wait", "tick"),
    *("start", "start", "start", "at", "begin", "begin", "return", "end"),
)

STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 2),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=80,
)


@given(STEPS)
def test_it_agrees_with_counting_everything_each_time(steps: list[tuple[str, int, int, bool]]) -> None:
    load_balancer, models = LoadBalancer(), dict[bytes, Model]()
    suspended, reserved = set[bytes](), set[bytes]()
    now = 0.0
    for step, node_number, number, plain in steps:
        node = b"n%d" % node_number
        server = server_id(node, number)
        model, there = models.get(server), load_balancer.places.get(server)
        if step == "add" and model is None:
            load_balancer.add(node, server)
            models[server] = Model()
        elif step == "remove":
            load_balancer.remove(server)
            models.pop(server, None)
            reserved.discard(server)
        elif step in {"suspend", "resume"}:
            getattr(load_balancer, step)(node)
            (suspended.add if step == "suspend" else suspended.discard)(node)
        elif step in {"start", "at"}:
            # "at" is at a server that was named, whatever waits there.
            chosen = load_balancer.pick(now, plain=plain) if step == "start" else there
            if chosen is not None:
                ahead = load_balancer.sent(chosen, now, plain=plain)
                models[chosen.server].waiting[plain].append(ahead)
        elif step in {"wait", "tick"}:
            now += 0.011 if step == "tick" else 0.5
        if model is None or there is None:
            continue
        if step == "begin" and model.waiting[plain]:
            load_balancer.begun(there, model.waiting[plain].pop(0), number * 3, now, plain=plain)
            model.running += 1
        elif step == "return" and model.waiting[plain]:
            model.waiting[plain].pop()
            load_balancer.returned(there, plain=plain)
        elif step == "end" and model.running:
            load_balancer.ended(there)
            model.running -= 1
        elif step in {"reserve", "release"}:
            getattr(load_balancer, step)(server)
            (reserved.add if step == "reserve" else reserved.discard)(server)
        for kind in (False, True):
            chosen = load_balancer.pick(now, plain=kind)
            assert (chosen.server if chosen else None) in best(
                load_balancer, models, suspended, reserved, now, plain=kind
            )
        assert {one: load_balancer.load(one) for one in models} == {one: model.load for one, model in models.items()}
        assert load_balancer.waits == any(model.waiting[False] or model.waiting[True] for model in models.values())


def best(
    load_balancer: LoadBalancer,
    models: dict[bytes, Model],
    suspended: set[bytes],
    reserved: set[bytes],
    now: float,
    *,
    plain: bool,
) -> set[bytes | None]:
    """Find by counting which servers may be next."""

    def has_room(server: bytes, *, kind: bool) -> bool:
        lane = load_balancer.places[server].lanes[kind]
        waiting = len(models[server].waiting[kind])
        return waiting < lane.window and not (waiting and now - lane.since > LATE)

    nodes: dict[bytes, dict[bytes, int]] = {}
    for server, model in models.items():
        nodes.setdefault(server[:2], {})[server] = model.load
    open_ = {
        server
        for server in models
        if server[:2] not in suspended
        and server not in reserved
        and has_room(server, kind=False)
        and (not plain or has_room(server, kind=True))
    }
    counted = [model.load for server, model in models.items() if load_balancer.places[server].counted]
    most = 1.1 * sum(counted) / max(len(counted), 1) + 2
    open_ = {server for server in open_ if models[server].running <= most}
    averages = {node: sum(of.values()) / len(of) for node, of in nodes.items() if open_ & of.keys()}
    least = [nodes[node].keys() & open_ for node, average in averages.items() if average == min(averages.values())]
    loads = {server: model.load for server, model in models.items()}
    return {one for of in least for one in of if loads[one] == min(loads[other] for other in of)} or {None}


# --- many servers


class World:
    """Servers that begin one start after the other, and what the client knows of them; time is simulated."""

    DELAY = 0.0001
    """Seconds between client and server."""
    TICK = 0.02
    """Seconds between two looks for starts that wait at a busy server."""

    def __init__(self, servers: int, slow: int = 0) -> None:
        """Make as many servers at nodes of eight each, and some nodes with one server of half the speed."""
        nodes = {b"slow %d-" % number: 1 for number in range(slow)}  # the first ones: equal servers take turns
        self.load_balancer = placement_of(nodes | {b"%d-" % node: min(8, servers) for node in range(servers // 8 or 1)})
        self.backlog: deque[float] = deque()
        self.queues: dict[bytes, deque[float]] = {server: deque() for server in self.load_balancer.places}
        self.busy: set[bytes] = set()
        self.sent: dict[bytes, deque[tuple[int, float]]] = {server: deque() for server in self.load_balancer.places}
        self.events: list[tuple[float, int, str, bytes]] = []
        self.now = self.ended = 0.0
        self.count = 0

    def at(self, seconds: float, what: str, server: bytes) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds, self.count, what, server))

    def fill(self) -> None:
        while self.backlog and (there := self.load_balancer.pick(self.now)) is not None:
            self.send(there)

    def send(self, there: ServerLoad) -> None:
        self.queues[there.server].append(job := self.backlog.popleft())
        self.sent[there.server].append((self.load_balancer.sent(there, self.now), job))
        self.at(self.DELAY, "arrives", there.server)

    def work(self, server: bytes) -> None:
        """Begin the next job, which blocks its server."""
        if server not in self.busy and self.queues[server]:
            self.busy.add(server)
            speed = 0.5 if server.startswith(b"slow") else 1.0
            self.at(self.queues[server].popleft() / speed, "done", server)

    def take_back(self) -> None:
        """Move what waits at busy servers to idle ones."""
        all_late = list(self.load_balancer.late(self.now))
        for late in all_late:
            self.load_balancer.leave_out(late)
        if self.backlog:
            self.fill()
            return
        for late in all_late:
            queue, sent = self.queues[late.server], self.sent[late.server]
            idle = self.load_balancer.pick(self.now)
            if idle is None or idle.load:
                return
            while queue:
                self.backlog.appendleft(queue.pop())
                sent.pop()
                self.load_balancer.returned(late)
            self.fill()

    def run(self, jobs: Iterable[float]) -> float:
        """Run blocking jobs of so many seconds; give how long that takes."""
        self.backlog.extend(jobs)
        began = self.now
        self.fill()
        self.at(self.TICK, "tick", b"")
        while self.events:
            self.now, _, what, server = heapq.heappop(self.events)
            there = self.load_balancer.places.get(server)
            if what == "done":
                self.busy.discard(server)
                self.at(self.DELAY, "told", server)
            elif what == "told" and there is not None:
                ahead, job = self.sent[server].popleft()
                level = hold_level(job)
                if level == LONG and ahead == 1:
                    self.load_balancer.computed(there, "work", self.now, plain=False)
                self.load_balancer.begun(there, ahead, level, self.now)
                self.load_balancer.ended(there)
                while self.backlog and self.load_balancer.takes_more(there, self.now, plain=False):
                    self.send(there)
                if self.load_balancer.held:
                    self.fill()
            elif what == "tick":
                self.take_back()
                if self.events:
                    self.at(self.TICK, "tick", b"")
                continue
            self.work(server)
            self.ended = self.now
        assert not self.backlog
        return self.ended - began


def pareto(count: int) -> list[float]:
    rng = random.Random(7)
    return [min(0.01 * rng.paretovariate(1.1), 2.0) for _ in range(count)]


JOBS = {
    "even": [0.02] * 300,
    "one long first": [1.5, *[0.05] * 30],
    "two long early": [0.05, 1.5, 1.5, *[0.05] * 60],
    "quick ones before long ones": [0.00002] * 3000 + [0.3] * 9,
    "staircase": [0.002 * number for number in range(1, 60)],
    "Pareto": pareto(200),
}


@pytest.mark.spec("B26")
@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("servers", [2, 8])
def test_no_server_idles_while_jobs_wait_elsewhere(name: str, servers: int) -> None:
    jobs = JOBS[name]
    free = [0.0] * servers
    for job in jobs:  # each to the server that is free first, without any delay
        heapq.heappush(free, heapq.heappop(free) + job)
    assert World(servers).run(jobs) <= 1.05 * max(free) + 0.02


@pytest.mark.spec("B26")
@pytest.mark.parametrize("before", ["even", "staircase", "Pareto"])
def test_a_long_job_goes_to_the_faster_one_of_idle_nodes_after_some_jobs_have_computed(before: str) -> None:
    world = World(1, slow=1)
    world.run(JOBS[before])
    for _ in range(5):
        assert world.run([1.5, *[0.05] * 30]) <= 1.05 * 2.0 + 0.02


def test_nodes_that_are_equally_fast_take_turns_although_durations_differ() -> None:
    world = World(16)
    world.run(JOBS["even"])
    used = [place(world.load_balancer) for _ in range(16)]
    assert len(set(used)) == 16


def calls_for_placing(servers: int, jobs: int = 4000) -> float:
    """Count the calls that one job makes, with four jobs for each of so many servers or more.

    Calls and not seconds: they are the same on a busy machine.
    """
    world = World(servers)
    seconds = random.Random(1).choices([0.00005, 0.001, 0.05], k=max(jobs, 4 * servers))
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        world.run(seconds)
    finally:
        sys.setprofile(None)
    return calls / len(seconds)


def test_10_000_servers_take_no_more_work_a_job_than_16() -> None:
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
    load(topology.load_balancer, b"north1", 1)
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
    load(topology.load_balancer, b"one1", 1)
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
    load(topology.load_balancer, b"north1", 1)
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
