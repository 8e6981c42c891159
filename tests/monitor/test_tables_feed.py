"""Tables of a scheduler beside what a computation knows of itself."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
import pytest
import trio

from discoro_trio import Location
from discoro_trio._cluster import ClusterStatus, ComputationStatus, CoroStatus, NodeStatus, Recent, ServerStatus
from discoro_trio._cluster._history import MOST_AT_ONCE, EndRecord, FailureRecord, FinalCounts, History
from discoro_trio._monitor import _tables_feed
from discoro_trio._monitor._feed import Feed
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import Query
from discoro_trio._monitor._source import Follower
from discoro_trio._monitor._tables_feed import SETTLING, TablesFeed
from discoro_trio._monitor._verdict import WINDOW, problems, verdict
from discoro_trio._monitor._views import render, summary
from discoro_trio._process import Coro, EndedCoro, FailureGroup

WHERE = Location("10.0.0.1", 4001)
SERVER = ServerStatus(
    location=WHERE,
    name="server 1",
    node="10.0.0.1",
    node_id="n",
    computation="c",
    submitted=0,
    done=0,
    running=0,
    coroutines=(),
    reported=0.0,
)
NODE = NodeStatus(
    id="n",
    addr="10.0.0.1",
    name="node",
    location=Location("10.0.0.1", 4000),
    platform="",
    suspended=False,
    servers=1,
    free=0,
    submitted=0,
    done=0,
    running=0,
    silence=0.0,
    info=None,
)
COMPUTATION = ComputationStatus(
    id="c",
    name="work",
    client=Location("10.0.0.9", 1),
    state="running",
    place=0,
    nodes=1,
    servers=1,
    zombie_period=0.0,
)


def tables(server: ServerStatus) -> ClusterStatus:
    return ClusterStatus(time=1.0, scheduler=None, nodes=(NODE,), servers=(server,), computations=(COMPUTATION,))


def test_what_a_computation_has_run_is_its_own_before_the_scheduler_says_that_it_has_the_server() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    feed.computations((COMPUTATION,), 1.0)
    feed.own_server(SERVER, 1.0, alone=True)
    feed.beside(tables(attrs.evolve(SERVER, computation="")))
    feed.own_server(attrs.evolve(SERVER, submitted=40, done=2), 1.0, alone=False)
    counts = model.computations["c"].counts
    assert (counts.submitted, counts.done, counts.running) == (40, 2, 38)
    assert model.servers[str(WHERE)].counts == counts


def ended(state: str = "failed", group: int = 1) -> EndRecord:
    coro = EndedCoro(7, "divide", 100.0, 101.0, state, "ValueError: no", "1, 0", group)
    return EndRecord(b"s", str(WHERE), b"c", b"starter", coro)


def failures(count: int, at: float = 101.0) -> FailureRecord:
    group = FailureGroup(1, "divide", "ValueError", "a.py:3", count, at, "ValueError: no", "the trace")
    return FailureRecord(b"s", str(WHERE), b"c", group)


def cluster(*, server: bool = True, computation: bool = True, **counts: Any) -> ClusterStatus:
    return ClusterStatus(
        time=110.0,
        scheduler=None,
        nodes=(attrs.evolve(NODE, **counts),),
        servers=(attrs.evolve(SERVER, id=b"s".hex(), **counts),) if server else (),
        computations=(attrs.evolve(COMPUTATION, **counts),) if computation else (),
    )


def running(serial: int = 7) -> CoroStatus:
    coro: Coro[Any] = Coro(b"s", serial, b"starter", b"c", "divide", WHERE)
    return CoroStatus(coro=coro, name="divide", start_time=100.0, age=1.0, progress=None, args="1, 0")


@pytest.mark.spec("B38", "S91", "S95")
def test_a_failure_shows_with_its_arguments_its_error_and_a_traceback() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    feed.apply(cluster())
    feed.apply(cluster(submitted=14, done=14, failed=14), Recent(2, 0, [ended()], [failures(14)]))
    sums = summary(model)
    assert (sums["submitted"], sums["done"], sums["failed"], sums["running"]) == (14, 14, 14, 0)
    (row,) = render(model, Query("coroutines", state="failed"), 110.0).rows
    assert (row["name"], row["args"], row["error"]) == ("divide", "1, 0", "ValueError: no")
    (group,) = render(model, Query("failures"), 110.0).rows
    assert (group["count"], group["kind"], group["trace"]) == (14, "ValueError", "the trace")
    head = render(model, Query("coroutine", str(row["id"])), 110.0).head
    assert (head["trace"], head["alike"]) == ("the trace", 14)
    assert render(model, Query("function", "divide"), 110.0).head["failed"] == 14


@pytest.mark.spec("B38")
@pytest.mark.parametrize("state", ["lost", "closed"])
def test_what_is_gone_ends_with_it(state: str) -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    there = cluster(submitted=2, running=2)
    feed.apply(attrs.evolve(there, servers=(attrs.evolve(there.servers[0], coroutines=(running(7), running(8))),)))
    assert [one.described for one in model.running.values()] == ["1, 0", "1, 0"]
    # Of one of the two the end is not told: it ends with its server all the same.
    feed.apply(cluster(server=False, submitted=2, done=2), Recent(1, 0, [ended(state, 0)], []))
    assert not model.running
    assert [one.state for one in model.ended] == [state, "closed"]
    assert summary(model)["running"] == 0


@pytest.mark.spec("B39")
def test_a_restarted_scheduler_gets_time_until_all_have_come_back_and_nothing_counts_twice() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    there = cluster(submitted=14, done=13, failed=2, running=1)
    there = attrs.evolve(there, servers=(attrs.evolve(there.servers[0], coroutines=(running(),)),))
    feed.apply(there, Recent(5, 0, [], []))
    empty = ClusterStatus(time=111.0, scheduler=None, nodes=(), servers=(), computations=())

    def state() -> tuple[object, ...]:
        sums = summary(model)
        states = [node.state for node in model.nodes.values()] + [one.state for one in model.computations.values()]
        counts = tuple(sums[name] for name in ("submitted", "done", "failed", "running"))
        return *counts, len(model.running), states

    before = state()
    assert before == (14, 13, 2, 1, 1, ["ready", "running"])
    feed.apply(empty, Recent(0, 0, [], []))
    assert state() == before
    unreported = attrs.evolve(cluster(), time=112.0)  # the server has not reported to it yet
    feed.apply(unreported, Recent(0, 0, [], []))
    assert state()[4:] == before[4:]
    feed.apply(attrs.evolve(there, time=113.0), Recent(0, 0, [], []))
    assert state() == before
    assert [event.text for event in model.log.events] == ["The scheduler was restarted"]
    feed.apply(attrs.evolve(empty, time=111.0 + SETTLING), Recent(0, 0, [], []))
    assert state() == (14, 14, 3, 0, 0, ["disconnected", "closed"])


@pytest.mark.spec("B39")
def test_what_has_come_back_to_a_restarted_scheduler_and_then_goes_is_gone_at_once() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    there = cluster(submitted=2, running=2)
    listed = attrs.evolve(there.servers[0], coroutines=(running(7), running(8)))
    feed.apply(attrs.evolve(there, servers=(listed,)), Recent(5, 0, [], []))
    back = attrs.evolve(there.servers[0], coroutines=(running(8),))
    feed.apply(attrs.evolve(there, time=111.0, servers=(back,)), Recent(0, 0, [], []))
    assert [one.handle.serial for one in model.running.values()] == [8], "the other one ended meanwhile"
    feed.apply(attrs.evolve(cluster(server=False, computation=False), time=112.0), Recent(0, 0, [], []))
    assert not model.running
    assert [one.state for one in model.servers.values()] == ["closed"]
    assert [one.state for one in model.computations.values()] == ["closed"]
    feed.apply(ClusterStatus(time=113.0, scheduler=None, nodes=(), servers=(), computations=()), Recent(0, 0, [], []))
    assert [one.state for one in model.nodes.values()] == ["disconnected"]


def all_counts(model: Model) -> set[tuple[int, int, int]]:
    """Return what the cluster, its nodes and its computations have: submitted, done, failed."""
    found = [
        model.totals.counts,
        *(node.counts for node in model.nodes.values()),
        *(computation.counts for computation in model.computations.values()),
    ]
    return {(one.submitted, one.done, one.failed) for one in found}


@pytest.mark.spec("B39")
def test_what_ended_with_a_server_before_the_restart_of_the_scheduler_stays_counted() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    server = attrs.evolve(SERVER, id=b"s".hex(), submitted=4, done=3, failed=1)
    there = attrs.evolve(cluster(submitted=14, done=13, failed=3), servers=(server,))  # with ten of a lost server
    feed.apply(there, Recent(5, 0, [], []))
    again = attrs.evolve(cluster(submitted=4, done=3, failed=1), servers=(server,))
    for at, status in enumerate((cluster(), again, again), 111):
        feed.apply(attrs.evolve(status, time=float(at)), Recent(0, 0, [], []))
        assert all_counts(model) == {(14, 13, 3)}
    more = attrs.evolve(cluster(submitted=5, done=5, failed=1), servers=(attrs.evolve(server, submitted=5, done=5),))
    for restarted in (False, True):  # also after another restart
        if restarted:
            feed.apply(attrs.evolve(cluster(), time=120.0), Recent(-1, 0, [], []))
        feed.apply(attrs.evolve(more, time=121.0), Recent(0, 0, [], []))
        assert all_counts(model) == {(15, 15, 3)}
    assert model.servers[str(WHERE)].counts.submitted == 5


class Scheduler:
    """A scheduler with a history."""

    def __init__(self, *, ended: int, failed: int) -> None:
        self.history = History()
        for serial in range(ended):
            coro = EndedCoro(serial, "divide", 100.0, 101.0, "failed", "ValueError: no", "1, 0", 1)
            self.history.ended(EndRecord(b"s", str(WHERE), b"c", b"starter", coro))
        self.history.failed(failures(failed))

    async def look(self, seen: int) -> tuple[ClusterStatus, Recent]:
        await trio.lowlevel.checkpoint()
        return cluster(), self.history.after(seen)

    async def details(self, _wanted: object) -> Any:
        raise NotImplementedError

    async def stacks(self, _wanted: object) -> Any:
        raise NotImplementedError


@pytest.mark.spec("B39")
async def test_the_first_look_has_all_that_the_scheduler_keeps() -> None:
    model = Model()
    follower = Follower(None, model, Feed(model))
    await follower.first_look(Scheduler(ended=2 * MOST_AT_ONCE + 5, failed=9))
    assert len(model.ended) == 2 * MOST_AT_ONCE + 5
    assert [one.text for one in problems(model, 110.0)] == ["9 divide failed in 5 minutes: ValueError: no"]
    assert not model.log.events, "what precedes the first look is no event"


@pytest.mark.spec("B39")
def test_what_happened_before_the_first_look_has_neither_a_rate_nor_a_beginning_that_was_not_seen() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    model.sample(100.0)
    others = (attrs.evolve(COMPUTATION, id="d", began=50.0), attrs.evolve(COMPUTATION, id="e", state="waiting"))
    there = cluster(submitted=5000, done=5000)
    feed.apply(attrs.evolve(there, computations=(*there.computations, *others)), Recent(1, 0, [], []))
    model.sample(105.0)
    assert model.totals.rate == 0
    feed.apply(
        attrs.evolve(
            cluster(submitted=5100, done=5100),
            time=111.0,
            computations=(*there.computations, others[0], attrs.evolve(others[1], state="running")),
        ),
        Recent(1, 0, [], []),
    )
    model.sample(110.0)
    assert model.totals.rate == 20
    assert {key: one.begin for key, one in model.computations.items()} == {"c": None, "d": 50.0, "e": 111.0}


@pytest.mark.spec("B39")
async def test_a_restarted_scheduler_is_noticed_also_when_its_history_is_longer() -> None:
    model = Model()
    follower = Follower(None, model, Feed(model))
    await follower.first_look(Scheduler(ended=2, failed=1))
    await follower.first_look(Scheduler(ended=7, failed=4))
    assert len(model.ended) == 7
    assert model.log.events[-1].text == "The scheduler was restarted"


@pytest.mark.spec("B38")
def test_a_node_that_has_come_again_replaces_the_row_of_the_one_that_is_gone() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    there = cluster(submitted=1, running=1)
    feed.apply(attrs.evolve(there, servers=(attrs.evolve(there.servers[0], coroutines=(running(),)),)))
    others = (
        attrs.evolve(NODE, id="n2", location=Location("10.0.0.1", 5000)),
        attrs.evolve(NODE, id="n3", name="another", location=Location("10.0.0.1", 6000)),
    )
    came = attrs.evolve(cluster(server=False), nodes=others)
    feed.apply(came, Recent(1, 0, [ended("lost", 0)], []))  # it went and came between two looks
    assert [(node.key, node.state) for node in model.nodes.values()] == [
        ("10.0.0.1:5000", "ready"),
        ("10.0.0.1:6000", "ready"),
    ]
    assert not model.running
    assert [one.state for one in model.ended] == ["lost"]
    assert (model.totals.counts.submitted, model.totals.counts.failed) == (1, 1)
    feed.apply(attrs.evolve(came, nodes=others[:1]))
    assert [node.state for node in model.nodes.values()] == ["ready", "disconnected"], "nobody has replaced this one"


@pytest.mark.spec("B38")
def test_a_computation_that_is_over_has_the_counts_of_the_last_reports() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    real = attrs.evolve(COMPUTATION, id=b"c".hex(), submitted=10, done=8, failed=1)
    feed.apply(attrs.evolve(cluster(), computations=(real,)), Recent(2, 0, [], []))
    over = msgspec.structs.replace(Recent(3, 0, [], []), over=[FinalCounts(b"c", 12, 3)])
    feed.apply(cluster(computation=False), over)
    counts = model.computations[b"c".hex()].counts
    assert (counts.submitted, counts.done, counts.failed) == (12, 12, 3)
    assert model.log.events[-1].text.endswith("is over: 12 coroutines ended, 3 failed")


@pytest.mark.spec("B38")
def test_what_a_lost_node_ran_is_lost() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    feed.apply(cluster(submitted=3, done=1, running=2))
    feed.apply(ClusterStatus(time=120.0, scheduler=None, nodes=(), servers=(), computations=()))
    sums = summary(model)
    assert (sums["running"], sums["failed"]) == (0, 2)
    assert model.computations["c"].counts.running == 0


@pytest.mark.spec("B39")
def test_the_verdict_names_what_is_wrong_with_links_and_is_good_only_when_nothing_is() -> None:
    model = Model()
    feed = TablesFeed(model, Feed(model))
    assert verdict(model, 110.0)["level"] == ""
    feed.apply(cluster())
    assert verdict(model, 110.0) == {
        "level": "good",
        "text": "All is well: 1 server, 0 coroutines running",
        "problems": [],
        "more": 0,
    }
    there = cluster(submitted=14, done=14, failed=14)
    blocked = attrs.evolve(there.servers[0], unresponsive=38.0, stack=("a.py:3 in invert",), name="alpha server 2")
    waits = attrs.evolve(there.computations[0], id="d", state="waiting", place=1, why="no node matches", queued=50.0)
    told = attrs.evolve(there, servers=(blocked,), computations=(*there.computations, waits))
    feed.apply(told, Recent(1, 0, [], [failures(14)]))
    found = problems(model, 110.0)
    assert [(one.level, one.text) for one in found] == [
        ("bad", "Server 2 of alpha has been blocked for 38 s in invert"),
        ("bad", "14 divide failed in 5 minutes: ValueError: no"),
        ("warn", "Computation work has waited for 60 s: no node matches"),
    ]
    assert found[0].link == {"view": "server", "key": str(WHERE)}
    assert found[1].link == {"view": "function", "key": "divide"}
    assert verdict(model, 110.0)["text"] == "3 problems"
    # What failed long ago is no problem now.
    assert len(problems(model, 110.0 + WINDOW)) == 2
    assert [event.text for event in model.log.events] == [
        "Server 2 of alpha is blocked in invert",
        "divide failed: ValueError: no",
    ]


@pytest.mark.spec("B39")
def test_a_source_that_does_not_answer_is_the_first_problem() -> None:
    model = Model()
    assert problems(model, 112.0) == []
    model.stale = 12
    (one,) = problems(model, 112.0)
    assert one.text == "The scheduler has not answered for 12 s; this page shows the last known state"


def test_the_kinds_of_failures_that_are_known_by_number_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tables_feed, "MOST_GROUPS", 3)
    model = Model()
    feed = TablesFeed(model, Feed(model))
    for number in range(5):
        feed.apply(cluster(), Recent(2, 0, [], [msgspec.structs.replace(failures(1), server_id=bytes([number]))]))
    assert len(feed._groups) == 3
