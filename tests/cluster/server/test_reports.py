"""Reports of what runs at servers: what a slow scheduler has not taken yet is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing

from discoro_trio import Location, NodeInfo
from discoro_trio._cluster import messages
from discoro_trio._cluster._facts import NodeFacts
from discoro_trio._cluster._history import (
    KEPT_ENDED,
    KEPT_FAILURES,
    KEPT_OUTPUTS,
    MOST_AT_ONCE,
    EndRecord,
    FailureRecord,
    History,
    LastLines,
)
from discoro_trio._cluster.node import _reports
from discoro_trio._cluster.node._reports import Standing
from discoro_trio._cluster.scheduler._observed_state import ObservedState
from discoro_trio._cluster.scheduler._scheduling import Scheduling
from discoro_trio._cluster.server._reports import LAST_LINES, MOST_ENDED, Outlet, combined
from discoro_trio._process import MOST_GROUPS, EndedCoro, FailureGroup, OutputLine

if TYPE_CHECKING:
    from discoro_trio._cluster import ServerStatus


def pulse(blocked: dict[bytes, float], used: dict[bytes, tuple[int, float, int]] | None = None) -> messages.Pulse:
    told = {server_id: messages.Blocked(seconds, ["a.py:3 in invert"]) for server_id, seconds in blocked.items()}
    return messages.Pulse(1, 0.0, 1, 1, 1, 1, told, used or {})


class SlowLink:
    """A connection that has no room until the test says so."""

    def __init__(self) -> None:
        self.sent: list[messages.ServerReport] = []
        self.free = trio.Event()

    async def room(self) -> None:
        await self.free.wait()

    def notify(self, message: messages.ServerReport) -> None:
        self.sent.append(message)


def coro(serial: int) -> messages.RunningCoro:
    return messages.RunningCoro(serial, f"job {serial}", 100.0, b"starter")


def end(serial: int, state: str = "done", group: int = 0) -> EndedCoro:
    return EndedCoro(serial, f"job {serial}", 100.0, 101.0, state, group=group)


def report(
    submitted: int,
    running: int,
    started: tuple[int, ...] = (),
    gone: tuple[int, ...] = (),
    *,
    failed: int = 0,
    ended: tuple[EndedCoro, ...] = (),
    failures: tuple[FailureGroup, ...] = (),
    progress: tuple[messages.CoroProgress, ...] = (),
) -> messages.Report:
    return messages.Report(
        submitted=submitted,
        failed=failed,
        cancelled=0,
        running=running,
        started=[coro(serial) for serial in started],
        gone=list(gone),
        ended=list(ended),
        failures=list(failures),
        progress=list(progress),
    )


def from_server(server_id: bytes, told: messages.Report) -> messages.ServerReport:
    return messages.ServerReport(b"c", server_id, told)


def left(server_id: bytes, *, over: bool = False) -> messages.ServerLeft:
    return messages.ServerLeft(server_id, wanted=over, over=over, reason="killed by signal 9")


def failures(count: int, trace: str = "") -> FailureGroup:
    return FailureGroup(1, "divide", "ValueError", "a.py:3", count, 101.0, "ValueError: no", trace)


async def test_reports_to_a_slow_scheduler_become_one_a_server_and_short_jobs_a_number() -> None:
    link: Any = SlowLink()
    outlet = Outlet(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        outlet.put(b"c", b"s1", report(2, 2, (1, 2)))
        outlet.put(b"c", b"s1", report(500, 2, (3,), (1,), failed=7, ended=(end(2, "failed"),)))
        outlet.put(b"c", b"s2", report(1, 0, (), (7,)))
        await trio.testing.wait_all_tasks_blocked()
        assert link.sent == []
        link.free.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    one, two = [sent.report for sent in link.sent]
    assert (one.submitted, one.failed, one.running, one.gone) == (500, 7, 2, [])
    assert [started.serial for started in one.started] == [3]
    assert [(coro.serial, coro.state) for coro in one.ended] == [(2, "failed")]
    assert (two.submitted, two.running, two.gone) == (1, 0, [7])


def test_a_traceback_survives_that_reports_are_put_together() -> None:
    both = combined(report(1, 0, failures=(failures(1, "the trace"),)), report(9, 0, failures=(failures(9),)))
    assert both.failures == [failures(9, "the trace")]


async def test_what_a_server_reported_last_is_sent_before_its_end() -> None:
    link: Any = SlowLink()
    outlet = Outlet(link)
    outlet.put(b"c", b"s1", report(2, 0, failed=2))
    outlet.flush(b"s1")
    outlet.flush(b"s1")
    assert [sent.report.failed for sent in link.sent] == [2]


def tables(observed_state: ObservedState, state: Scheduling) -> tuple[ServerStatus, ...]:
    return observed_state.status(state, 10.0, 110.0, Location("h", 1), lambda _: Location("c", 2)).servers


def test_the_census_follows_reports_and_forgets_servers_with_their_node() -> None:
    observed_state, state = ObservedState(), Scheduling()
    state.node_joined(0, NodeFacts(b"n", "n", "10.0.0.1", 1, 1, "Linux"), 1, [])
    observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server 1", "10.0.0.1", 5))
    progress = messages.CoroProgress(1, 3, 4, "on")
    observed_state.reported(4, from_server(b"s", report(9, 1, (1,), failed=2, progress=(progress,))))
    (server,) = tables(observed_state, state)
    assert (server.node, server.submitted, server.done, server.failed, server.running) == ("10.0.0.1", 9, 8, 2, 1)
    assert server.reported == 6
    (running,) = server.coroutines
    assert (running.name, running.age, running.coro.serial) == ("job 1", 10, 1)
    assert running.progress is not None
    assert running.progress.text == "on"
    observed_state.reported(5, from_server(b"s", report(9, 0, (), (1,))))
    assert tables(observed_state, state)[0].coroutines == ()
    observed_state.reported(5, from_server(b"unknown", report(9, 0, (), (1,))))
    assert observed_state.node_left(110.0, b"n", "lost") == [Location("10.0.0.1", 5)]
    assert tables(observed_state, state) == ()


def test_a_node_s_counts_keep_those_of_servers_that_were_replaced() -> None:
    observed_state, state = ObservedState(), Scheduling()
    state.node_joined(0, NodeFacts(b"n", "n", "10.0.0.1", 1, 1, "Linux"), 1, [])
    observed_state.seen(0, b"n", messages.ServerSeen(b"old", "n server 1", "10.0.0.1", 5))
    observed_state.reported(1, from_server(b"old", report(9, 2, (8, 9), failed=1)))
    assert observed_state.left(110.0, left(b"old")) == Location("10.0.0.1", 5)
    observed_state.seen(2, b"n", messages.ServerSeen(b"new", "n server 1", "10.0.0.1", 5))
    observed_state.reported(3, from_server(b"new", report(3, 1, failed=1)))
    status = observed_state.status(state, 10.0, 110.0, Location("h", 1), lambda _: Location("c", 2))
    (node,) = status.nodes
    # Two ran when the old one ended: they are lost, which counts as failed.
    assert (node.submitted, node.done, node.failed, node.running) == (12, 11, 4, 1)
    assert (status.submitted, status.done, status.failed, status.running) == (12, 11, 4, 1)


def test_the_census_shows_who_does_not_answer_until_the_next_pulse_or_a_report() -> None:
    observed_state, state = ObservedState(), Scheduling()
    info = NodeInfo("10.0.0.1", "n", "Linux", 1, 0.0, 1, 1, 1, 1)
    for name in (b"s", b"t"):
        observed_state.seen(0, b"n", messages.ServerSeen(name, "n server", "10.0.0.1", 5))
    observed_state.pulsed(4, b"n", info, pulse({b"s": 3.0}))
    assert [(row.unresponsive, row.stack) for row in tables(observed_state, state)] == [
        (9, ("a.py:3 in invert",)),
        (0, ()),
    ]
    observed_state.pulsed(5, b"another", info, pulse({}))
    assert [row.unresponsive for row in tables(observed_state, state)] == [9, 0]
    observed_state.pulsed(6, b"n", info, pulse({b"t": 1.0}))
    assert [row.unresponsive for row in tables(observed_state, state)] == [0, 5]
    observed_state.reported(7, from_server(b"t", report(1, 0)))
    assert [row.unresponsive for row in tables(observed_state, state)] == [0, 0]


@pytest.mark.spec("B38")
def test_what_a_blocked_server_could_not_report_is_known_from_its_client_until_the_server_answers() -> None:
    observed_state, state = ObservedState(), Scheduling()
    info = NodeInfo("10.0.0.1", "n", "Linux", 1, 0.0, 1, 1, 1, 1)
    observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server", "10.0.0.1", 5))
    observed_state.reported(1, from_server(b"s", report(9, 1, (1,))))
    started = messages.StartedThere(b"c", b"s", {1: ("job 1", None), 2: ("invert", "3")})

    def shown() -> tuple[list[tuple[str, str | None, float]], int, int]:
        (row,) = tables(observed_state, state)
        assert {one.coro.serial for one in row.coroutines} in ({1}, {1, 2})
        return [(one.name, one.args, one.age) for one in row.coroutines], row.submitted, row.running

    before = shown()
    observed_state.started_there(2, 102.0, b"client", started)
    assert shown() == before, "a server that answers has reported all"
    for now in (4, 5):
        assert observed_state.pulsed(now, b"n", info, pulse({b"s": now - 1.0})) == [b"s"]
        observed_state.started_there(now, 100.0 + now, b"client", started)
        assert shown() == ([*before[0], ("invert", "3", 9)], 10, 2)
    observed_state.started_there(5, 105.0, b"client", messages.StartedThere(b"other", b"s", {}))
    assert shown()[1] == 10, "it works for another computation"
    observed_state.reported(6, from_server(b"s", report(10, 1, (), (), ended=(end(2, "done"),))))
    assert shown() == (before[0], 10, 1)
    observed_state.pulsed(7, b"n", info, pulse({b"s": 1.0}))
    observed_state.started_there(7, 107.0, b"client", messages.StartedThere(b"c", b"s", {3: ("invert", "4")}))
    observed_state.pulsed(8, b"n", info, pulse({}))
    assert shown() == (before[0], 10, 1)
    assert before[0][0][1] is None
    observed_state.pulsed(9, b"n", info, pulse({b"s": 1.0}))
    observed_state.started_there(9, 109.0, b"client", messages.StartedThere(b"c", b"s", {1: ("job 1", "'a'")}))
    assert shown()[0][0][1] == "'a'", "a blocked server cannot be asked for arguments"


@pytest.mark.spec("B38")
@pytest.mark.parametrize(("over", "state"), [(False, "lost"), (True, "closed")])
def test_what_runs_at_a_server_ends_with_it_and_with_the_reason(*, over: bool, state: str) -> None:
    observed_state = ObservedState()
    observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server 1", "10.0.0.1", 5))
    observed_state.reported(
        1, from_server(b"s", report(3, 2, (1, 2), ended=(end(3, "failed", 1),), failures=(failures(1),)))
    )
    observed_state.left(110.0, left(b"s", over=over))
    recent = observed_state.history.after(0)
    assert [(one.coro.serial, one.coro.state) for one in recent.ended] == [(3, "failed"), (1, state), (2, state)]
    assert recent.ended[1].coro.error == "killed by signal 9"
    assert recent.ended[1].starter == b"starter"
    assert observed_state.node_of(b"s") is None
    assert observed_state.server_at("10.0.0.1:5") is None
    assert [one.group for one in recent.failures] == [failures(1)]
    assert observed_state.history.after(recent.last).ended == []


@pytest.mark.spec("B38")
def test_what_a_node_had_is_lost_with_it() -> None:
    observed_state = ObservedState()
    observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server 1", "10.0.0.1", 5))
    observed_state.reported(1, from_server(b"s", report(1, 1, (1,))))
    observed_state.node_left(110.0, b"n", "the connection is lost")
    (one,) = observed_state.history.after(0).ended
    assert (one.coro.state, one.coro.error, one.coro.at) == ("lost", "the connection is lost", 110.0)


def test_the_history_is_bounded_and_is_given_in_parts() -> None:
    history = History()
    for serial in range(KEPT_ENDED + 10):
        history.ended(EndRecord(b"s", "h:1", b"c", b"", end(serial)))
    seen, serials = 1, []
    first = history.after(seen)
    assert (first.missed, len(first.ended)) == (9, MOST_AT_ONCE)
    while (recent := history.after(seen)).ended:
        serials += [one.coro.serial for one in recent.ended]
        seen = recent.last
    assert serials == list(range(10, KEPT_ENDED + 10))
    assert history.after(10 * KEPT_ENDED).ended == history.after(0).ended  # another scheduler's number


@pytest.mark.spec("B38", "B19")
def test_a_scheduler_that_joins_later_gets_what_runs_and_what_has_failed() -> None:
    standing = Standing(b"c")
    assert standing.whole() is None
    standing.add(
        report(3, 3, (1, 2, 3), progress=(messages.CoroProgress(2, 1, 4, ""),), failures=(failures(1, "trace"),))
    )
    standing.add(report(9, 1, (), (1,), failed=2, ended=(end(3, "failed", 1),), failures=(failures(2),)))
    whole = standing.whole()
    assert whole is not None
    assert (whole.submitted, whole.failed, whole.running) == (9, 2, 1)
    assert [coro.serial for coro in whole.started] == [2]
    assert (whole.ended, whole.gone, whole.failures) == ([], [], [failures(2, "trace")])
    assert [one.serial for one in whole.progress] == [2]


def test_a_job_that_makes_up_reports_fills_neither_its_node_nor_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reports, "MOST_LISTED", 10)
    monkeypatch.setattr(_reports, "MOST_ARGUMENTS", 5)
    standing, long = Standing(b"c"), "x" * 100_000
    groups = [FailureGroup(number, long, long, long, 1, 1.0, long, long) for number in range(-1000, 1000)]
    for first in range(0, 100, 20):
        told = standing.add(
            messages.Report(
                submitted=1,
                failed=0,
                cancelled=0,
                running=1,
                started=[messages.RunningCoro(first + one, long, 1.0, long.encode(), long) for one in range(20)],
                gone=[*range(10**6, 10**6 + 1000)],
                ended=[EndedCoro(10**7 + one, long, 1.0, 2.0, long, long, long) for one in range(2000)],
                failures=groups,
                progress=[messages.CoroProgress(one, 0.0, None, long) for one in range(1000)],
                lines=[OutputLine(one, 1.0, 1, long, long, long) for one in range(1000)],
            )
        )
        assert len(told.gone) == 0
        assert (len(told.ended), len(told.failures), len(told.lines)) == (MOST_ENDED, MOST_GROUPS + 2, LAST_LINES)
        assert len(msgspec.msgpack.encode(told)) < 100 * 1024 * 1024
    whole = standing.whole()
    assert whole is not None
    assert len(whole.started) == len(whole.progress) == 10
    assert len(msgspec.msgpack.encode(whole)) < 10 * 1024 * 1024


def test_the_end_of_a_listed_coroutine_is_reported_even_without_its_details() -> None:
    standing, observed = Standing(b"c"), ObservedState()
    observed.seen(0.0, b"node", messages.ServerSeen(b"s", "s", "127.0.0.1", 1))
    many = tuple(range(MOST_ENDED + 500))
    observed.reported(0.0, from_server(b"s", standing.add(report(len(many), len(many), started=many))))
    older = standing.add(report(len(many), 500, ended=tuple(map(end, many[:-500]))))
    newer = standing.add(report(len(many), 0, ended=tuple(map(end, many[-500:]))))
    observed.reported(1.0, from_server(b"s", combined(older, newer)))
    assert not observed._servers[b"s"].coroutines


def test_a_history_keeps_so_many_kinds_of_failures_and_outputs() -> None:
    history = History()
    for number in range(KEPT_FAILURES + 5):
        history.failed(FailureRecord(number.to_bytes(4), "", b"c", failures(1)))
        history.wrote(LastLines(number.to_bytes(4), "", []))
    kept = history.after(0)
    assert (len(kept.failures), len(kept.lines)) == (KEPT_FAILURES, KEPT_OUTPUTS)


@pytest.mark.spec("B38")
@pytest.mark.parametrize("order", ["report first", "report after the end", "no server"])
def test_the_final_counts_of_a_computation_include_the_last_reports_of_its_servers(order: str) -> None:
    observed_state = ObservedState()
    if order != "no server":
        observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server 1", "10.0.0.1", 5))
        observed_state.reported(1, from_server(b"s", report(3, 2, (1, 2))))
    if order == "report after the end":
        observed_state.computation_over(b"c")
        assert observed_state.history.after(0).over == []
    if order != "no server":
        last = from_server(b"s", report(3, 0, (), (), ended=(end(1, "failed", 1), end(2, "done"))))
        observed_state.reported(2, last)
    if order == "report first":
        observed_state.computation_over(b"c")
    observed_state.left(110.0, left(b"s", over=True))
    if order == "no server":
        observed_state.computation_over(b"c")
    (counts,) = observed_state.history.after(0).over
    assert (counts.computation, counts.ended) == (b"c", 0 if order == "no server" else 3)
    tables(observed_state, Scheduling())
    assert not observed_state._before.keys() - {b"n"}, "nothing is kept of it"
