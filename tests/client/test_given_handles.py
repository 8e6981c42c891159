"""A handle that a coroutine gives out works for everybody who has it, in whatever way the coroutine was started."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Starting = Callable[[discoro.Computation, trio.Nursery, discoro.Coro[Any]], Any]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B42"),
]


async def give(receiver: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> str:
    """Give out the own handle, then wait for the word to end."""
    await receiver.send(coro)
    return str(await coro.receive())


async def give_and_return(receiver: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> str:
    await receiver.send(coro)
    return "early"


async def local_child(receiver: discoro.Coro[Any]) -> None:
    async with discoro.open_nursery() as nursery:
        nursery.start_soon(give, receiver)


async def use(way: str, given: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> object:
    """Use a handle at a server that has nothing to do with it."""
    return await used(way, given, coro)


async def used(way: str, given: discoro.Coro[Any], own: discoro.Coro[Any]) -> object:
    if way == "result":
        await given.send("over")
        return await given.result()
    if way == "wait":
        await given.send("over")
        await given.wait()
        return None
    if way == "monitor":
        await given.monitor(own)
        await given.send("over")
        ended = await own.receive()
        return ended.value
    await given.terminate()
    await given.wait()
    return None


EXPECTED = {"result": "over", "wait": None, "monitor": "over", "terminate": None}


async def quietly(call: Callable[..., Any], *args: Any) -> None:
    try:
        await call(*args)
    except discoro.CoroCancelled:
        return


async def by_run(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    await computation.run(give, me)


async def by_run_result(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    nursery.start_soon(quietly, computation.run_result, give, me)


async def by_map(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    async def mapped() -> None:
        try:
            async with computation.map(give, [me]) as results:
                async for _ in results:
                    pass
        except* discoro.CoroCancelled:
            pass

    nursery.start_soon(mapped)


async def by_nursery(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    async def nested() -> None:
        async with computation.open_nursery() as inner:
            inner.start_soon(give, me)

    nursery.start_soon(nested)


async def by_supervisor(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    async def supervised() -> None:
        async with discoro.open_supervisor(computation) as supervisor:
            supervisor.start_soon(give, me)

    nursery.start_soon(supervised)


async def by_local_nursery(computation: discoro.Computation, nursery: trio.Nursery, me: discoro.Coro[Any]) -> None:
    nursery.start_soon(quietly, computation.run_result, local_child, me)


STARTS = [by_run, by_run_result, by_map, by_nursery, by_supervisor, by_local_nursery]


@asynccontextmanager
async def given_by(start: Starting) -> AsyncIterator[tuple[discoro.Computation, discoro.Coro[Any], discoro.Coro[Any]]]:
    """Give a computation, the calling task's coroutine, and the handle that a coroutine started so has given out."""
    components = [give, give_and_return, local_child, use, used, EXPECTED]
    async with (
        open_computation([one for one in components if callable(one)]) as computation,
        discoro.open_coro("me") as me,
        trio.open_nursery() as nursery,
    ):
        await start(computation, nursery, me)
        given = await me.receive()
        yield computation, me, given
        await given.terminate()


@pytest.mark.parametrize("way", EXPECTED)
@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)
async def test_a_given_handle_works_at_the_client_and_at_another_server(start: Starting, way: str) -> None:
    async with given_by(start) as (_, me, given):
        assert await used(way, given, me) == EXPECTED[way]
    async with given_by(start) as (computation, _, given):
        others = [server for server in await computation.servers() if server != given.location]
        assert await (await computation.run_at(others[0], use, way, given)).result() == EXPECTED[way]


async def test_the_outcome_of_a_job_that_gave_out_its_handle_is_kept_for_a_while() -> None:
    async with open_computation([give_and_return]) as computation, discoro.open_coro("me") as me:
        assert await computation.run_result(give_and_return, me) == "early"
        given = await me.receive()
        assert await given.result() == "early"
        await given.wait()
        await given.terminate()


async def test_waiting_for_what_has_ended_and_is_not_kept_returns() -> None:
    async with open_computation([give_and_return]) as computation, discoro.open_coro("me") as me:
        await computation.run_result(give_and_return, me)
        given = await me.receive()
        forgotten: discoro.Coro[Any] = discoro.Coro(
            given.home, given.serial + 1000, given.starter, given.realm, "job", given.location
        )
        with pytest.raises(discoro.UnknownCoro):
            await forgotten.result()
        await forgotten.wait()
        await forgotten.terminate()
