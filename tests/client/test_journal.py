"""How monitors follow a computation: what a look finds, and that following changes nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client._journal import MOST_SHORT
from discoro_trio._process import Ending

from .clusters import open_computation

if TYPE_CHECKING:
    from discoro_trio._client import Look

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def echo(value: object) -> object:
    return value


async def fail() -> None:
    message = "broken"
    raise ValueError(message)


async def stay() -> None:
    await trio.sleep_forever()


def counts(look: Look) -> tuple[int, int]:
    assert look.tables is not None
    servers = look.tables.servers
    return sum(server.submitted for server in servers), sum(server.done for server in servers)


async def test_a_look_tells_of_what_began_and_then_of_how_it_ended() -> None:
    async with open_computation([stay], servers=1) as computation:
        before = await computation.run(stay)
        with computation._followed() as journal:
            rcoro = await computation.run(stay)
            first = journal.look()
            assert [(one.key, one.name) for one in first.begun] == [(before.id, "stay"), (rcoro.id, "stay")]
            assert {one.server for one in first.begun} == {str(location) for location in await computation.servers()}
            assert (first.ended, counts(first)) == ([], (2, 0))
            await first.begun[1].handle.terminate()
            second = journal.look()
            assert [(one.key, one.ending, one.begun) for one in second.ended] == [(rcoro.id, Ending.CANCELLED, None)]
            assert (second.begun, counts(second)) == ([], (2, 1))


async def test_of_coroutines_that_come_and_go_between_two_looks_some_are_told_and_all_are_counted() -> None:
    jobs = 1_000
    async with open_computation([echo], servers=1) as computation:
        with computation._followed() as journal:
            await computation.run_results(echo, range(MOST_SHORT // 2))
            few = journal.look()
            assert len(few.ended) == MOST_SHORT // 2
            assert all(one.begun is not None and one.begun.args for one in few.ended)
            await computation.run_results(echo, range(jobs))
            many = journal.look()
            assert MOST_SHORT / 2 < len(many.ended) < jobs / 4
            assert counts(many)[0] == jobs + MOST_SHORT // 2
            assert many.one_in > 1


async def test_following_hears_no_errors() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with open_computation([echo, fail], servers=1) as computation:
            with computation._followed() as journal:
                # Its end is heard of behind it: the server takes them in order.
                await computation.run(fail)
                await computation.run_result(echo, 1)
                look = journal.look()
                assert list(look.failed.values()) == [1]
                (outcome,) = [one.outcome for one in look.ended if one.ending is Ending.ERROR]
                assert outcome is not None
                assert isinstance(outcome.error(), ValueError)
    assert raised.group_contains(ValueError, match="broken")


async def test_the_end_of_a_server_and_of_the_computation_leave_their_counts() -> None:
    computation = discoro.Computation([echo, stay])
    with trio.fail_after(30), computation._followed() as journal:
        async with discoro.open_cluster(servers=1):
            async with computation.schedule():
                await computation.run_result(echo, 1)
                (location,) = await computation.servers()
                await computation.restart_server(location)
                look = journal.look()
                assert [(one.location, one.submitted, one.done) for one in look.gone] == [(location, 1, 1)]
                await computation.run(stay)
                journal.look()
            last = journal.look()
            assert last.tables is None
            assert [one.ending for one in last.ended] == [Ending.LOST]
            assert [(server.submitted, server.running) for table in last.closed for server in table.servers] == [(1, 0)]
            async with computation.schedule():
                await computation.run_result(echo, 2)
            assert [table.computations[0].id for table in journal.look().closed] != []
