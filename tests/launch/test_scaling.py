"""The decisions of an adaptive launcher: as a state machine, and in simulations of large clusters."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio.launch._scaling import Facts, LaunchedFacts, Scale, Scaling, ScalingRules

pytestmark = pytest.mark.spec("B37")


def scaling(*, minimum: int = 0, maximum: int = 10, target: float = 10.0, cool_down: float = 60.0) -> Scaling:
    return Scaling(ScalingRules(minimum=minimum, maximum=maximum, target=target, cool_down=cool_down))


def node(name: str, *, busy: int = 0, oldest: float = 0.0, joined: bool = True) -> LaunchedFacts:
    return LaunchedFacts(name=name, joined=joined, servers=1, busy=busy, running=busy, oldest=oldest)


def nodes(count: int, *, busy: int = 0) -> list[LaunchedFacts]:
    return [node(f"n{number}", busy=number < busy) for number in range(count)]


def test_the_first_job_starts_one_node_and_its_duration_decides_about_more() -> None:
    state = scaling(maximum=8)
    first = state.decide(0, Facts(nodes=[], jobs=100))
    assert (first.start, first.reason) == (1, "1 node wanted: 100 jobs waiting and 0 running, of unknown duration")
    assert state.decide(1, Facts(nodes=[node("a", joined=False)], jobs=100)).start == 0, "one is starting"
    state.decide(2, Facts(nodes=nodes(1), jobs=100))
    more = state.decide(3, Facts(nodes=nodes(1, busy=1), jobs=96, ended=4))
    assert (more.wanted, more.start) == (3, 2)
    assert more.reason == (
        "3 nodes wanted: 95 jobs waiting and 1 running, 24 s of work for one server, to be done in target=10 s"
    )


def test_a_job_that_has_not_ended_is_as_long_as_its_server_has_been_busy() -> None:
    state = scaling(maximum=100)
    wanted = [state.decide(second, Facts(nodes=nodes(1, busy=1), jobs=50)).wanted for second in range(9)]
    assert wanted == [1, 5, 10, 15, 20, 25, 30, 34, 39]


def test_a_server_that_jobs_block_is_busy_though_it_reports_nothing_as_running() -> None:
    state = scaling()
    for second in range(3):
        blocked = LaunchedFacts(name="a", joined=True, servers=1, used=1)
        state.decide(second, Facts(nodes=[blocked], jobs=100 - second, ended=second))
    assert state.seconds_per_job == pytest.approx(1, rel=0.1)


def test_no_more_servers_are_wanted_than_there_are_jobs() -> None:
    state = scaling(maximum=100)
    wanted = [state.decide(second, Facts(nodes=nodes(1, busy=1), jobs=3)).wanted for second in range(100)]
    assert wanted[-1] == max(wanted) == 3


def test_a_computation_that_waits_for_servers_gets_them() -> None:
    state = scaling()
    assert state.decide(0, Facts(nodes=[], servers=6)).start == 1, "the first node shows how many servers a node has"
    two = LaunchedFacts(name="a", joined=True, servers=2)
    decision = state.decide(1, Facts(nodes=[two], servers=6))
    assert (decision.start, decision.reason) == (2, "3 nodes wanted: a computation waits for 6 servers")


def test_nodes_are_drained_after_the_cool_down_the_idle_ones_first() -> None:
    state = scaling(minimum=1, cool_down=60)
    state.decide(0, Facts(nodes=nodes(3, busy=3), jobs=3))
    waiting = state.decide(10, Facts(nodes=nodes(3, busy=1), jobs=1))
    assert (waiting.wanted, waiting.drain) == (1, ())
    assert waiting.reason == "1 node wanted: 1 job running and none waiting; 2 nodes can be drained in 50 s"
    assert state.decide(59, Facts(nodes=nodes(3, busy=1), jobs=1)).drain == ()
    done = state.decide(61, Facts(nodes=nodes(3, busy=1), jobs=1))
    assert (set(done.drain), done.start) == ({"n1", "n2"}, 0)
    assert state.decide(62, Facts(nodes=nodes(1), draining=2)).reason == "1 node wanted: no jobs, limited by minimum=1"


def test_a_node_with_a_long_coroutine_is_kept() -> None:
    state = scaling(cool_down=0)
    spread = [
        LaunchedFacts(name=name, joined=True, servers=8, busy=1, running=1, oldest=oldest)
        for name, oldest in (("long", 11), ("short", 9))
    ]
    decision = state.decide(0, Facts(nodes=spread, jobs=2))
    assert (decision.wanted, decision.drain) == (1, ("short",))
    both = [LaunchedFacts(name=name, joined=True, servers=8, busy=1, running=1, oldest=99) for name in "ab"]
    assert state.decide(1, Facts(nodes=both, jobs=2)) == Scale(
        wanted=1,
        reason="1 node wanted: 2 jobs running and none waiting; 1 node more run long coroutines and are kept",
    )


def test_nodes_that_do_not_join_are_started_again_with_growing_pauses() -> None:
    state = scaling(minimum=1)
    starts: list[int] = []
    for second in range(100):
        if state.decide(second, Facts(nodes=[], failed=len(starts))).start:
            starts.append(second)
    assert starts == [0, 2, 5, 10, 19, 36, 69]
    assert "the last node did not join, the next starts in" in state.decide(100, Facts(nodes=[], failed=7)).reason


def test_a_launcher_that_is_full_is_not_asked_again_until_a_node_has_ended() -> None:
    state = scaling(minimum=5)
    facts = Facts(nodes=nodes(3))
    assert state.decide(0, facts).start == 2
    state.refused(0, facts)
    assert state.decide(1, facts) == Scale(
        wanted=5,
        reason="5 nodes wanted: no jobs, limited by minimum=5; the launcher has no place for more than 3 nodes",
    )
    assert state.decide(2, Facts(nodes=nodes(2))).start == 3


def test_draining_nodes_count_for_the_maximum() -> None:
    state = scaling(minimum=4, maximum=4)
    assert state.decide(0, Facts(nodes=nodes(1), draining=2)).start == 1
    assert "2 nodes must end before others start" in state.decide(0, Facts(nodes=nodes(2), draining=2)).reason


@given(
    st.integers(0, 3),
    st.integers(3, 9),
    st.floats(0, 20),
    st.lists(
        st.tuples(
            st.floats(0, 10),  # seconds since the last decision
            st.integers(0, 50),  # jobs
            st.integers(0, 9),  # servers a computation waits for
            st.lists(st.tuples(st.booleans(), st.integers(0, 1), st.floats(0, 30)), max_size=9),
            st.integers(0, 9),  # coroutines that have ended
            st.integers(0, 2),  # nodes that did not join
            st.integers(0, 3),  # nodes that are being drained
        ),
        max_size=30,
    ),
)
@settings(deadline=None)
def test_every_decision_keeps_the_limits(
    minimum: int,
    maximum: int,
    cool_down: float,
    events: list[tuple[float, int, int, list[tuple[bool, int, float]], int, int, int]],
) -> None:
    state = scaling(minimum=minimum, maximum=maximum, cool_down=cool_down)
    now, ended, failed = 0.0, 0, 0
    needed: list[tuple[float, int]] = []
    for elapsed, jobs, servers, given_nodes, more, lost, draining in events:
        now, ended, failed = now + elapsed, ended + more, failed + lost
        there = [
            node(f"n{number}", joined=joined, busy=busy * joined, oldest=oldest * busy)
            for number, (joined, busy, oldest) in enumerate(given_nodes)
        ]
        facts = Facts(nodes=there, draining=draining, failed=failed, jobs=jobs, ended=ended, servers=servers)
        decision = state.decide(now, facts)
        needed.append((now, decision.wanted))
        assert minimum <= decision.wanted <= maximum
        assert not (decision.start and decision.drain)
        assert decision.reason.startswith(f"{decision.wanted} node")
        if decision.start:
            assert len(there) + draining + decision.start <= maximum
            assert len(there) + decision.start <= decision.wanted
        by_name = {one.name: one for one in there}
        assert len(set(decision.drain)) == len(decision.drain)
        assert all(by_name[name].oldest <= state.rules.target for name in decision.drain)
        left = len(there) - len(decision.drain)
        if decision.drain:
            recent = [wanted for at, wanted in needed if at > now - cool_down]
            assert left >= max(decision.wanted, *recent, 0)


class Cluster:
    """A simulated cluster of nodes with four servers each, which take a time to start and run one job a server."""

    def __init__(self, state: Scaling, *, start_seconds: float) -> None:
        self.state = state
        self.start_seconds = start_seconds
        self.now = 0.0
        self.waiting: deque[float] = deque()
        self.ended = 0
        self.launched = 0
        self.starting: dict[str, float] = {}
        self.running: dict[str, list[tuple[float, float]]] = {}  # when each job began and ends
        self.draining: set[str] = set()
        self.started = 0
        self.most = 0

    def step(self, seconds: float) -> None:
        self.now += seconds
        for name, at in list(self.starting.items()):
            if at <= self.now:
                del self.starting[name]
                self.running[name] = []
        for name, jobs in self.running.items():
            left = [job for job in jobs if job[1] > self.now]
            self.ended += len(jobs) - len(left)
            self.running[name] = left
        for name in [one for one in self.draining if not self.running[one]]:
            del self.running[name]
            self.draining.discard(name)
        for name, jobs in self.running.items():
            while name not in self.draining and len(jobs) < 4 and self.waiting:
                jobs.append((self.now, self.now + self.waiting.popleft()))
        decision = self.state.decide(self.now, self.facts())
        for _ in range(decision.start):
            self.launched += 1
            self.starting[f"n{self.launched}"] = self.now + self.start_seconds
        self.started += decision.start
        for name in decision.drain:
            if self.starting.pop(name, None) is None:
                self.draining.add(name)
        self.most = max(self.most, len(self.starting) + len(self.running))

    def facts(self) -> Facts:
        there = [LaunchedFacts(name=name, joined=False) for name in self.starting]
        for name, jobs in self.running.items():
            if name not in self.draining:
                oldest = max((self.now - begun for begun, _ in jobs), default=0.0)
                there.append(
                    LaunchedFacts(name=name, joined=True, servers=4, busy=len(jobs), running=len(jobs), oldest=oldest)
                )
        running = sum(len(jobs) for jobs in self.running.values())
        return Facts(nodes=there, draining=len(self.draining), jobs=len(self.waiting) + running, ended=self.ended)


@pytest.mark.slow
def test_a_thousand_nodes_follow_bursts_and_lose_no_job() -> None:
    chance = random.Random(7)
    state = scaling(minimum=2, maximum=1000, target=60, cool_down=120)
    cluster = Cluster(state, start_seconds=45)
    given_jobs = 0
    largest = []
    for burst in (40_000, 300, 60_000):
        cluster.most = 0
        given_jobs += burst
        cluster.waiting.extend(chance.expovariate(1 / 10) for _ in range(burst))
        seconds = 0
        while cluster.waiting or any(cluster.running.values()):
            cluster.step(1)
            seconds += 1
            assert seconds < 1500, cluster.facts()
        largest.append(cluster.most)
        assert cluster.ended == given_jobs, "none is lost, none runs twice"
        for _ in range(300):
            cluster.step(1)
        assert len(cluster.running) == 2, "the minimum, after the cool-down"
        assert not cluster.draining
        assert not cluster.starting
    assert largest[0] == largest[2] == 1000
    assert largest[1] < 100, "300 jobs of 10 s are 13 nodes' work of 60 s"
    assert cluster.started <= 1000 + 100 + 1000, "a node is not ended while its work still waits"
