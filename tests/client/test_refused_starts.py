"""Coroutines on their way to a server that closes as idle are placed elsewhere, and nobody notices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from discoro_trio._client._load_balancer import LoadBalancer
from discoro_trio._client._refused_starts import RefusedStarts
from discoro_trio._process import Call, Ending, LocalOutcome, Submission


def job(value: int) -> int:
    return value


class Host:
    """A host that notes what is started there."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.link = SimpleNamespace(lost=False)
        self.owner: Any = None
        self.started: dict[int, Submission] = {}

    def start(self, call: Call, **_: bool) -> Submission:
        serial = len(self.started) + 1
        host: Any = self
        started = self.started[serial] = Submission(self.name, serial, call.name, host)
        return started


class Session:
    """As much of a session as is needed."""

    def __init__(self) -> None:
        self.load_balancer = LoadBalancer()
        self.records = SimpleNamespace(keep=lambda _: None)
        self.servers: dict[bytes, Any] = {}
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, name: bytes) -> Host:
        host = Host(name)
        self.servers[name] = SimpleNamespace(server_id=name, host=host)
        self.load_balancer.add(b"node", name)
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
        again = RefusedStarts(session, nursery)
        closed: Any = Host(b"closed")
        call = Call(job, (1,), {}, None)
        started = closed.start(call, acknowledge=False)
        again.keep(started, call, acknowledge=False)
        again.refused(closed)
        await trio.testing.wait_all_tasks_blocked()
        before = started.outcome
        other = session.add(b"other")
        await trio.testing.wait_all_tasks_blocked()
        assert (before, closed.started) == (None, {})
        assert other.started == {1: started}
        assert (started.home, started.serial, session.load_balancer.load(b"other")) == (b"other", 1, 1)
        started.end(LocalOutcome.returned(1))
        again.cancelled(started, "too late")
        assert started.outcome is not None
        assert started.outcome.ending is Ending.VALUE


async def test_one_that_is_cancelled_between_two_servers_ends_there() -> None:
    async with trio.open_nursery() as nursery:
        session: Any = Session()
        again = RefusedStarts(session, nursery)
        closed: Any = Host(b"closed")
        call = Call(job, (1,), {}, None)
        started = closed.start(call, acknowledge=False)
        again.keep(started, call, acknowledge=False)
        again.refused(closed)
        await trio.testing.wait_all_tasks_blocked()
        again.cancelled(started, "not wanted")
        assert started.outcome is not None
        assert started.outcome.ending is Ending.CANCELLED
        other = session.add(b"other")
        await trio.testing.wait_all_tasks_blocked()
        assert other.started == {}
