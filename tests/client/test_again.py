"""Coroutines on their way to a server that closes as idle are placed elsewhere, and nobody notices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from discoro_trio.client._again import Again
from discoro_trio.client._placement import Placement
from discoro_trio.process import Call, Ending, Here, Started


def job(value: int) -> int:
    return value


class Host:
    """A host that notes what is started there."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.link = SimpleNamespace(lost=False)
        self.owner: Any = None
        self.started: dict[int, Started] = {}

    def start(self, _function: object, call: Call, **_: bool) -> Started:
        serial = len(self.started) + 1
        host: Any = self
        started = self.started[serial] = Started(self.name, serial, call.name, host)
        return started


class Session:
    """As much of a session as is needed."""

    def __init__(self) -> None:
        self.placement = Placement()
        self.records = SimpleNamespace(keep=lambda _: None)
        self.servers: dict[bytes, Any] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, name: bytes) -> Host:
        host = Host(name)
        self.servers[name] = SimpleNamespace(server_id=name, host=host)
        self.placement.add(b"node", name)
        self._changed.unpark_all()
        return host

    def check_open(self) -> None:
        pass

    async def until_changed(self) -> None:
        await self._changed.park()


@pytest.mark.spec("S39")
async def test_the_record_moves_to_another_server_and_gets_its_outcome_from_there() -> None:
    async with trio.open_nursery() as nursery:
        session: Any = Session()
        again = Again(session, nursery)
        closed: Any = Host(b"closed")
        call = Call(job, (1,), {}, None)
        started = closed.start(job, call, acknowledge=False)
        again.keep(started, job, call, acknowledge=False)
        again.refused(closed)
        await trio.testing.wait_all_tasks_blocked()
        before = started.outcome
        other = session.add(b"other")
        await trio.testing.wait_all_tasks_blocked()
        assert (before, closed.started) == (None, {})
        assert other.started == {1: started}
        assert (started.home, started.serial, session.placement.load(b"other")) == (b"other", 1, 1)
        started.end(Here.returned(1))
        again.cancelled(started, "too late")
        assert started.outcome is not None
        assert started.outcome.ending is Ending.VALUE


async def test_one_that_is_cancelled_between_two_servers_ends_there() -> None:
    async with trio.open_nursery() as nursery:
        session: Any = Session()
        again = Again(session, nursery)
        closed: Any = Host(b"closed")
        call = Call(job, (1,), {}, None)
        started = closed.start(job, call, acknowledge=False)
        again.keep(started, job, call, acknowledge=False)
        again.refused(closed)
        await trio.testing.wait_all_tasks_blocked()
        again.cancelled(started, "not wanted")
        assert started.outcome is not None
        assert started.outcome.ending is Ending.CANCELLED
        other = session.add(b"other")
        await trio.testing.wait_all_tasks_blocked()
        assert other.started == {}
