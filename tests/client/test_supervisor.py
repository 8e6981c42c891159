"""Supervised coroutines are started again, those that belong together with them, and not for ever."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import TooManyRestarts, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def serve(name: str, diary: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> None:
    """Write down the start, then do as told; write down the clean-up."""
    await diary.send((name, "starts", coro))
    try:
        async for order in coro:
            if order == "fail":
                raise LookupError(name)
            if order == "die":
                os._exit(7)
            return
    finally:
        with trio.CancelScope(shield=True):
            await diary.deliver((name, "ends", coro))


async def nothing() -> None:
    """Show that the server is there."""


class Diary:
    """What the children wrote, and the latest handle of each."""

    def __init__(self, coro: discoro.Coro[Any]) -> None:
        self.coro = coro
        self.children: dict[str, discoro.Coro[Any]] = {}

    async def read(self, count: int) -> list[tuple[str, str]]:
        """Wait for entries, sorted, for children on different servers do not wait for each other."""
        entries = []
        for _ in range(count):
            name, what, child = await self.coro.receive()
            if what == "starts":
                self.children[name] = child
            entries.append((name, what))
        return sorted(entries)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[discoro.Computation, Diary]]:
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2),
            discoro.open_coro() as coro,
            discoro.Computation([serve, nothing]).schedule() as computation,
        ):
            await computation.run_servers(nothing)  # both are there, so that a and b do not share one
            yield computation, Diary(coro)


async def test_what_fails_or_is_lost_is_started_again_alone() -> None:
    async with running() as (computation, diary):
        async with open_supervisor(computation) as supervisor:
            supervisor.start_soon(serve, "a", diary.coro)
            supervisor.start_soon(serve, "b", diary.coro)
            assert await diary.read(2) == [("a", "starts"), ("b", "starts")]
            first = diary.children["a"]
            await first.send("fail")
            assert await diary.read(2) == [("a", "ends"), ("a", "starts")]
            assert diary.children["a"] != first
            await diary.children["a"].send("die")
            assert await diary.read(1) == [("a", "starts")]
            await diary.children["b"].send("return")
            await diary.children["a"].send("return")
        assert await diary.read(2) == [("a", "ends"), ("b", "ends")]


async def answer_by_name(*, coro: discoro.Coro[Any]) -> None:
    """Register a name, and say to whoever sends his handle where this is; end the server for None."""
    await coro.register("answers")
    async for asker in coro:
        if asker is None:
            os._exit(7)
        await asker.send((coro, os.getpid()))


async def test_who_is_started_again_after_its_server_died_is_found_elsewhere_by_its_name() -> None:
    with trio.CancelScope() as scope:
        async with running() as (computation, diary), open_supervisor(computation) as supervisor:
            supervisor.start_soon(answer_by_name)
            first = child = await discoro.locate("answers")
            await child.send(diary.coro)
            coro, pid = await diary.coro.receive()
            assert coro == child
            await child.send(None)
            while child == first:
                child = await discoro.locate("answers")
            await child.send(diary.coro)
            coro, another_pid = await diary.coro.receive()
            assert coro == child
            assert pid != another_pid
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("strategy", "restarted"), [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])]
)
async def test_a_failure_takes_those_along_that_the_strategy_says(strategy: Any, restarted: list[str]) -> None:
    async with running() as (computation, diary), open_supervisor(computation, strategy=strategy) as supervisor:
        for name in "abc":
            supervisor.start_soon(serve, name, diary.coro)
        await diary.read(3)
        await diary.children["b"].send("fail")
        expected = sorted((name, what) for name in restarted for what in ("ends", "starts"))
        assert await diary.read(len(expected)) == expected
        for child in diary.children.values():
            await child.send("return")


async def test_too_many_failures_end_it_with_their_history_and_the_others_cancelled() -> None:
    async with running() as (computation, diary):
        with pytest.raises(TooManyRestarts, match="max_restarts=1") as caught:
            async with open_supervisor(computation, max_restarts=1) as supervisor:
                supervisor.start_soon(serve, "a", diary.coro)
                supervisor.start_soon(serve, "b", diary.coro)
                await diary.read(2)
                await diary.children["a"].send("fail")
                await diary.read(2)
                await diary.children["a"].send("fail")
                await trio.sleep_forever()
        assert [failure.name for failure in caught.value.history] == ["serve", "serve"]
        assert [str(failure.error) for failure in caught.value.history] == ["a", "a"]
        assert await diary.read(2) == [("a", "ends"), ("b", "ends")]


async def test_leaving_by_an_exception_cancels_the_children_and_waits_for_their_clean_up() -> None:
    async with running() as (computation, diary):
        with pytest.raises(KeyError):
            async with open_supervisor(computation) as supervisor:
                supervisor.start_soon(serve, "a", diary.coro)
                await diary.read(1)
                raise KeyError
        name, what, _ = diary.coro.receive_nowait()
        assert (name, what) == ("a", "ends")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strategy": "all"}, "strategy"),
        ({"max_restarts": -1}, "max_restarts"),
        ({"within": 0}, "within must be more than 0, not 0"),
    ],
)
async def test_a_wrong_option_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        async with open_supervisor(discoro.Computation(), **options):
            pass


async def test_failures_further_apart_than_the_period_are_not_added_up() -> None:
    async with (
        running() as (computation, diary),
        open_supervisor(computation, max_restarts=1, within=0.01) as supervisor,
    ):
        supervisor.start_soon(serve, "a", diary.coro)
        await diary.read(1)
        for _ in range(3):
            await trio.sleep(0.02)
            await diary.children["a"].send("fail")
            await diary.read(2)
        await diary.children["a"].send("return")


async def give_name(diary: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> None:
    await diary.deliver(coro.name)


async def test_a_name_is_the_child_s() -> None:
    async with running() as (computation, diary), open_supervisor(computation) as supervisor:
        supervisor.start_soon(give_name, diary.coro, name="chosen")
        assert await diary.coro.receive() == "chosen"
