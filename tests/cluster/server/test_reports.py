"""Reports of what runs at servers: what a slow scheduler has not taken yet is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from discoro_trio import Location, NodeInfo
from discoro_trio._cluster import messages
from discoro_trio._cluster._facts import NodeFacts
from discoro_trio._cluster.scheduler._observed_state import ObservedState
from discoro_trio._cluster.scheduler._scheduling import Scheduling
from discoro_trio._cluster.server._reports import Outlet

if TYPE_CHECKING:
    from discoro_trio._cluster import ServerStatus


def pulse(blocked: dict[bytes, float], used: dict[bytes, tuple[int, float, int]] | None = None) -> messages.Pulse:
    return messages.Pulse(1, 0.0, 1, 1, 1, 1, blocked, used or {})


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


def report(submitted: int, running: int, started: tuple[int, ...] = (), ended: tuple[int, ...] = ()) -> messages.Report:
    return messages.Report(submitted, running, [coro(serial) for serial in started], list(ended), [])


async def test_reports_to_a_slow_scheduler_become_one_a_server_and_short_jobs_a_number() -> None:
    link: Any = SlowLink()
    outlet = Outlet(link)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlet.run)
        outlet.put(b"c", b"s1", report(2, 2, (1, 2)))
        outlet.put(b"c", b"s1", report(500, 2, (3,), (1,)))
        outlet.put(b"c", b"s2", report(1, 0, (), (7,)))
        await trio.testing.wait_all_tasks_blocked()
        assert link.sent == []
        link.free.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    one, two = link.sent
    assert (one.submitted, one.running, [started.serial for started in one.started], one.ended) == (500, 2, [2, 3], [])
    assert (two.submitted, two.running, two.ended) == (1, 0, [7])


def tables(observed_state: ObservedState, state: Scheduling) -> tuple[ServerStatus, ...]:
    return observed_state.status(state, 10.0, 110.0, Location("h", 1), lambda _: Location("c", 2)).servers


def test_the_census_follows_reports_and_forgets_servers_with_their_node() -> None:
    observed_state, state = ObservedState(), Scheduling()
    state.node_joined(0, NodeFacts(b"n", "n", "10.0.0.1", 1, 1, "Linux"), 1, [])
    observed_state.seen(0, b"n", messages.ServerSeen(b"s", "n server 1", "10.0.0.1", 5))
    progress = [messages.CoroProgress(1, 3, 4, "on")]
    observed_state.reported(4, messages.ServerReport(b"c", b"s", 9, 1, [coro(1)], [], progress))
    (server,) = tables(observed_state, state)
    assert (server.node, server.submitted, server.done, server.running) == ("10.0.0.1", 9, 8, 1)
    assert server.reported == 6
    (running,) = server.coroutines
    assert (running.name, running.age, running.coro.serial) == ("job 1", 10, 1)
    assert running.progress is not None
    assert running.progress.text == "on"
    observed_state.reported(5, messages.ServerReport(b"c", b"s", 9, 0, [], [1], []))
    assert tables(observed_state, state)[0].coroutines == ()
    observed_state.reported(5, messages.ServerReport(b"c", b"unknown", 9, 0, [], [1], []))
    assert observed_state.node_left(b"n") == [Location("10.0.0.1", 5)]
    assert tables(observed_state, state) == ()


def test_a_node_s_counts_keep_those_of_servers_that_were_replaced() -> None:
    observed_state, state = ObservedState(), Scheduling()
    state.node_joined(0, NodeFacts(b"n", "n", "10.0.0.1", 1, 1, "Linux"), 1, [])
    observed_state.seen(0, b"n", messages.ServerSeen(b"old", "n server 1", "10.0.0.1", 5))
    observed_state.reported(1, messages.ServerReport(b"c", b"old", 9, 2, [], [], []))
    assert observed_state.left(b"old") == Location("10.0.0.1", 5)
    observed_state.seen(2, b"n", messages.ServerSeen(b"new", "n server 1", "10.0.0.1", 5))
    observed_state.reported(3, messages.ServerReport(b"c", b"new", 3, 1, [], [], []))
    status = observed_state.status(state, 10.0, 110.0, Location("h", 1), lambda _: Location("c", 2))
    (node,) = status.nodes
    assert (node.submitted, node.done, node.running) == (12, 11, 1)
    assert (status.submitted, status.done, status.running) == (12, 11, 1)


def test_the_census_shows_who_does_not_answer_until_the_next_pulse_or_a_report() -> None:
    observed_state, state = ObservedState(), Scheduling()
    info = NodeInfo("10.0.0.1", "n", "Linux", 1, 0.0, 1, 1, 1, 1)
    for name in (b"s", b"t"):
        observed_state.seen(0, b"n", messages.ServerSeen(name, "n server", "10.0.0.1", 5))
    observed_state.pulsed(4, b"n", info, pulse({b"s": 3.0}))
    assert [row.unresponsive for row in tables(observed_state, state)] == [9, 0]
    observed_state.pulsed(5, b"another", info, pulse({}))
    assert [row.unresponsive for row in tables(observed_state, state)] == [9, 0]
    observed_state.pulsed(6, b"n", info, pulse({b"t": 1.0}))
    assert [row.unresponsive for row in tables(observed_state, state)] == [0, 5]
    observed_state.reported(7, messages.ServerReport(b"c", b"t", 1, 0, [], [], []))
    assert [row.unresponsive for row in tables(observed_state, state)] == [0, 0]
