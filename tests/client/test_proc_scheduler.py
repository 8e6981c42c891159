"""`ProcScheduler`: at most one of its coroutines on a server at a time."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import discoro_trio as discoro

from .clusters import open_computation, until_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


class Seen:
    """A server's own memory."""

    running = 0
    most = 0


async def count(*, coro: discoro.Coro[int]) -> int:
    """Give the most that were running at once on this server, as far as it knows."""
    Seen.running += 1
    Seen.most = max(Seen.most, Seen.running)
    for _ in range(20):
        await trio.lowlevel.checkpoint()
    Seen.running -= 1
    return Seen.most


async def where(*, coro: discoro.Coro[discoro.Location]) -> discoro.Location:
    return coro.location


async def until_told(*, coro: discoro.Coro[str]) -> str:
    answer: str = await coro.receive()
    return answer


async def die() -> None:
    os._exit(3)


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation([Seen, count, where, until_told, die]) as computation:
        yield computation


@pytest.mark.spec("S98", "S100")
async def test_no_server_runs_two_of_its_coroutines_at_once(computation: discoro.Computation) -> None:
    results: list[int] = []

    async def work(scheduler: discoro.ProcScheduler) -> None:
        results.append(await scheduler.execute(count))

    async with discoro.ProcScheduler(computation) as scheduler, trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(work, scheduler)
    assert results == [1] * 40


@pytest.mark.spec("S99", "S102")
async def test_schedule_waits_for_a_free_server_and_leaving_the_block_for_its_coroutines(
    computation: discoro.Computation,
) -> None:
    async with discoro.ProcScheduler(computation) as scheduler:
        busy = [await scheduler.schedule(until_told) for _ in range(2)]
        assert len({coro.location for coro in busy}) == 2
        with trio.move_on_after(0.05) as scope:
            await scheduler.schedule(until_told)
        assert scope.cancelled_caught
        await busy[1].send("first")
        third = await scheduler.schedule(until_told)
        assert third.location == busy[1].location
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scheduler.finish)
            await trio.testing.wait_all_tasks_blocked()
            for coro in (busy[0], third):
                await coro.send("then")
        assert [await coro.result() for coro in (*busy, third)] == ["then", "first", "then"]


@pytest.mark.spec("S99", "S102")
async def test_leaving_the_block_waits_for_a_coroutine_that_still_runs(computation: discoro.Computation) -> None:
    async with trio.open_nursery() as nursery:

        async def send_later(coro: discoro.Coro[str]) -> None:
            await trio.testing.wait_all_tasks_blocked(0.05)
            await coro.send("late")

        async with discoro.ProcScheduler(computation) as scheduler:
            coro = await scheduler.schedule(until_told)
            nursery.start_soon(send_later, coro)
        assert await coro.result() == "late"


async def test_those_who_wait_are_served_in_their_order(computation: discoro.Computation) -> None:
    order: list[int] = []

    async def work(scheduler: discoro.ProcScheduler, number: int) -> None:
        await scheduler.execute(where)
        order.append(number)

    async with discoro.ProcScheduler(computation) as scheduler:
        coros = [await scheduler.schedule(until_told) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(work, scheduler, number)
                await trio.testing.wait_all_tasks_blocked()
            await coros[0].send("go")
        assert order == [0, 1, 2, 3, 4]
        await coros[1].send("go")


@pytest.mark.spec("S101", "S103")
async def test_execute_at_and_run_go_to_servers_that_are_busy(computation: discoro.Computation) -> None:
    async with discoro.ProcScheduler(computation) as scheduler:
        coros = [await scheduler.schedule(until_told) for _ in range(2)]
        for coro in coros:
            assert await scheduler.execute_at(coro.location, where) == coro.location
        assert await scheduler.execute_at("127.0.0.1", where) in await computation.servers()
        assert await computation.run_result(where) in await computation.servers()
        with pytest.raises(discoro.UnknownLocation):
            await scheduler.execute_at("elsewhere", where)
        for coro in coros:
            await coro.send("go")


@pytest.mark.spec("S100")
async def test_a_job_that_is_lost_is_reported_to_its_caller_and_the_new_server_is_used(
    computation: discoro.Computation,
) -> None:
    async with discoro.ProcScheduler(computation) as scheduler:
        for _ in range(3):
            with pytest.raises(discoro.ServerLost) as caught:
                await scheduler.execute(die)
            assert caught.value.exitcode == 3
        await until_servers(computation, 2)
        assert await scheduler.execute(where) in await computation.servers()


@pytest.mark.spec("S102")
async def test_finish_waits_for_calls_that_still_wait_for_a_server() -> None:
    done: list[object] = []
    async with (
        open_computation([until_told, where], servers=1) as computation,
        discoro.ProcScheduler(computation) as scheduler,
        trio.open_nursery() as nursery,
    ):
        busy = await scheduler.schedule(until_told)

        async def work() -> None:
            done.append(await scheduler.execute(where))

        async def finish() -> None:
            await scheduler.finish()
            done.append("finished")

        for call in (work, finish):
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
        # The only server is lost: nothing runs, and the call waits for the next one.
        await computation.restart_server(busy.location)
    (server,) = done[:1]
    assert isinstance(server, discoro.Location)
    assert done[1:] == ["finished"]


@pytest.mark.spec("S103")
async def test_servers_where_only_other_coroutines_run_are_free(computation: discoro.Computation) -> None:
    servers = await computation.servers()
    others = [await computation.run_at(server, until_told) for server in servers for _ in range(2)]
    async with discoro.ProcScheduler(computation) as scheduler:
        coros = [await scheduler.schedule(until_told) for _ in servers]
        assert {coro.location for coro in coros} == set(servers)
        for coro in (*coros, *others):
            await coro.send("go")


@pytest.mark.spec("B02", "S100", "S101")
@pytest.mark.parametrize("at", [False, True])
async def test_a_cancelled_execute_cancels_its_job_and_frees_the_server(
    at: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with (
        open_computation([until_told, where], servers=1) as computation,
        computation.subscribe() as events,
        discoro.ProcScheduler(computation) as scheduler,
    ):
        (server,) = await computation.servers()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def cancel_when_created() -> None:
                    assert isinstance(await events.receive(), discoro.DiscoroStatus)
                    scope.cancel()

                nursery.start_soon(cancel_when_created)
                await (scheduler.execute_at(server, until_told) if at else scheduler.execute(until_told))
        assert scope.cancelled_caught
        (ended,) = [event for event in [await events.receive()] if isinstance(event, discoro.MonitorException)]
        assert isinstance(ended.error, discoro.CoroCancelled)
        assert await scheduler.execute(where) == server
        await scheduler.finish()


async def test_an_exception_of_the_block_cancels_its_coroutines(computation: discoro.Computation) -> None:
    with pytest.raises(ZeroDivisionError):
        async with discoro.ProcScheduler(computation) as scheduler:
            coro = await scheduler.schedule(until_told)
            raise ZeroDivisionError
    with pytest.raises(discoro.CoroCancelled):
        await coro.result()


@pytest.mark.spec("S102")
async def test_finish_closes_the_computation_if_asked(computation: discoro.Computation) -> None:
    scheduler = discoro.ProcScheduler(computation)
    with pytest.raises(RuntimeError, match="not entered"):
        await scheduler.schedule(where)
    async with scheduler:
        coro = await scheduler.schedule(where)
        await scheduler.finish(close=True)
        assert isinstance(await coro.result(), discoro.Location)
        with pytest.raises(discoro.ComputationClosed):
            await scheduler.schedule(where)
