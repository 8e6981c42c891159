"""What is fetched while pages are viewed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from discoro_trio._cluster import DetailsAre, ProcessStacks, Recent
from discoro_trio._monitor._broadcast import Broadcast, Browser
from discoro_trio._monitor._details import Details
from discoro_trio._monitor._feed import Feed
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import Query
from discoro_trio._monitor._source import Follower
from discoro_trio._monitor._verdict import problems
from discoro_trio._process import ROOM, ProcessDump, TaskDump, Wanted

from .test_tables_feed import cluster, running

pytestmark = pytest.mark.spec("B39")


def sender(name: str, target: str) -> TaskDump:
    return TaskDump(-1, "", name, name, begins=True, stack=[], waits=ROOM, target=target, target_name=target)


class Scheduler:
    """A scheduler whose answers about stacks can be slow."""

    def __init__(self, *tasks: TaskDump) -> None:
        self.tasks = tasks
        self.slow = False
        self.asked: list[Wanted] = []
        self.arrived = trio.Event()

    async def look(self, seen: int) -> Any:
        await trio.lowlevel.checkpoint()
        there = cluster()
        return attrs.evolve(there, servers=(attrs.evolve(there.servers[0], coroutines=(running(),)),)), Recent(
            seen, 0, [], []
        )

    async def details(self, _wanted: object) -> DetailsAre:
        await trio.lowlevel.checkpoint()
        return DetailsAre([])

    async def stacks(self, wanted: Wanted) -> list[ProcessStacks]:
        self.asked.append(wanted)
        if wanted.coroutine:
            self.arrived.set()
        elif self.slow:
            await trio.sleep_forever()
        dump = ProcessDump(7, "", list(self.tasks), 0, [])
        return [ProcessStacks(b"p", b"", ["server"], "server 1", "h:1", dump, [], [])]


class Nowhere:
    has_begun = False

    def send_now(self, _message: bytes) -> bool:
        return False


async def made(source: Scheduler) -> tuple[Broadcast, Details]:
    hub = Broadcast(Model(), poll_sec=5)
    follower = Follower(source, hub.model, Feed(hub.model))
    await follower.first_look(source)
    return hub, Details(hub, follower, source)


async def test_the_first_page_names_coroutines_that_wait_for_each_other_for_ever() -> None:
    source = Scheduler(sender("a", "b"), sender("b", "a"), sender("c", "a"))
    hub, details = await made(source)
    assert problems(hub.model, 110.0) == []
    await details.fill(Query("cluster"))
    (problem,) = problems(hub.model, 110.0)
    assert problem.text == "3 coroutines wait for each other for ever: a waits for room in the mailbox of b"
    assert (problem.level, problem.link) == ("bad", {"view": "tree"})
    assert source.asked == [Wanted(stuck=True)], "without stacks: it is cheap"
    await details.fill(Query("cluster"))
    assert len(source.asked) == 1, "and it is seldom asked"


@pytest.mark.parametrize("view", ["cluster", "tree"])
async def test_a_view_with_slow_answers_delays_no_other(view: str) -> None:
    source = Scheduler()
    hub, details = await made(source)
    source.slow = True
    (key,) = hub.model.running
    async with trio.open_nursery() as nursery:
        hub.look(Browser(Nowhere()), Query(view))
        nursery.start_soon(details.run)
        while not source.asked:  # noqa: ASYNC110 - the source has no event for it
            await trio.sleep(0.01)
        hub.look(Browser(Nowhere()), Query("coroutine", key))
        with trio.fail_after(60):
            await source.arrived.wait()
        nursery.cancel_scope.cancel()
