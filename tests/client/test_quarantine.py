"""The server of a job that runs alone, decided without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from discoro_trio._client._load_balancer import LoadBalancer
from discoro_trio._client._quarantine import start_alone
from discoro_trio._process import LocalOutcome, Submission

ONLY = b"server"
JOB: Any = None  # no test sends it


class SessionOfTests:
    """Has one server, where one coroutine runs; notes what it was to start."""

    def __init__(self) -> None:
        self.neighbour = Submission(b"", 1, "neighbour", None)
        self.begun: list[Submission] = []
        self.load_balancer = LoadBalancer()
        self.load_balancer.add(b"node", ONLY)
        host = SimpleNamespace(started={1: self.neighbour}, link=SimpleNamespace(lost=False))
        self.servers = {ONLY: SimpleNamespace(server_id=ONLY, host=host, withdrawn=False)}

    def check_open(self) -> None: ...

    def changed(self) -> None: ...

    def start_on(self, _server: object, _call: object) -> Submission:
        self.begun.append(Submission(b"", 2, "job", None))
        return self.begun[-1]

    @property
    def reserved(self) -> bool:
        return self.load_balancer.least() is None


@pytest.mark.spec("B12")
async def test_a_job_waits_for_the_others_of_its_server_which_takes_no_more_until_it_has_ended() -> None:
    session: Any = SessionOfTests()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_alone, session, JOB)
        await trio.testing.wait_all_tasks_blocked()
        assert session.reserved
        assert not session.begun
        session.neighbour.end(LocalOutcome.returned(None))
    (job,) = session.begun
    assert session.reserved
    job.end(LocalOutcome.returned(None))
    assert not session.reserved


@pytest.mark.spec("B12")
async def test_a_job_that_is_cancelled_while_it_waits_releases_its_server() -> None:
    session: Any = SessionOfTests()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(start_alone, session, JOB)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not session.reserved
    assert not session.begun
