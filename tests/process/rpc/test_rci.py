from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from discoro_trio import CoroCancelled, NotPicklable, PeerDisconnected, UnknownCoro, current_coro
from discoro_trio._errors import NameTaken
from discoro_trio._process import RCI, Coro, Process, locate_rci

from ..computations import open_computation
from ..worlds import cut, open_processes, settle

pytestmark = pytest.mark.spec("S02")


async def add(one: int, other: int = 10) -> int:
    return one + other


def in_a_thread(value: int) -> tuple[int, bool]:
    return value, threading.current_thread() is threading.main_thread()


async def fail(text: str) -> None:
    raise KeyError(text)


async def who(*, coro: Coro[Any]) -> tuple[Coro[Any], bool]:
    return coro, coro == current_coro()


async def take_one(*, coro: Coro[Any]) -> Any:
    return await coro.receive()


class Watched:
    """A function that runs until cancelled, and says so."""

    def __init__(self) -> None:
        self.running = 0
        self.ended = 0

    async def __call__(self) -> None:
        self.running += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            self.ended += 1


async def located(home: Process, name: str) -> RCI:
    return await locate_rci(name, location=home.endpoint.location)


async def test_a_call_belongs_to_its_caller_and_gives_the_value() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(add).register(public=True), RCI(in_a_thread, name="plain").register(public=True):
                with two.entered():
                    remote = await located(one, "add")
                    assert await remote.run(1) == 11
                    assert await remote.run(1, other=2) == 3
                    assert await (await located(one, "plain")).run(5) == (5, False)


async def test_an_error_of_the_function_is_raised_at_the_caller() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(fail).register(public=True):
                with two.entered():
                    remote = await located(one, "fail")
                    with pytest.raises(KeyError, match="this text"):
                        await remote.run("this text")
                    coro = await remote("another text")
                    with pytest.raises(KeyError, match="another text"):
                        await coro.result()


async def test_a_started_coroutine_has_a_handle_like_all_others() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(take_one).register(public=True), RCI(who).register(public=True):
                with two.entered():
                    coro = await (await located(one, "take_one"))()
                    await coro.send("a message")
                    assert await coro.result() == "a message"
                    other = await (await located(one, "who"))()
                    assert await other.result() == (other, True)


async def test_cancelling_a_call_cancels_the_coroutine_and_waits_for_its_clean_up() -> None:
    watched = Watched()
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(watched, name="watched").register(public=True):
                with two.entered():
                    remote = await located(one, "watched")
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(remote.run)
                        await settle()
                        assert watched.running == 1
                        nursery.cancel_scope.cancel()
                    assert watched.ended == 1


async def test_coroutines_end_with_the_block_that_registered_their_function() -> None:
    watched = Watched()
    async with open_processes(2) as (one, two):
        with two.entered():
            async with RCI(watched, name="watched").register(public=True):
                with one.entered():
                    remote = await located(two, "watched")
                    coro = await remote()
                    await settle()
            assert watched.ended == 1
        with one.entered():
            with pytest.raises(CoroCancelled, match="block that registered"):
                await coro.result()
            with pytest.raises(UnknownCoro, match="not registered any more"):
                await remote()


async def test_coroutines_end_when_their_caller_is_lost() -> None:
    watched = Watched()
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(watched, name="watched").register(public=True):
                with two.entered():
                    coro = await (await located(one, "watched"))()
                    await settle()
                    cut(one, two)
                    await settle()
                    assert watched.ended == 1
                    with pytest.raises(PeerDisconnected):
                        await coro.result()


async def test_a_cancelled_start_leaves_nothing() -> None:
    watched = Watched()
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(watched, name="watched").register(public=True):
                with two.entered():
                    remote = await located(one, "watched")
                    for checkpoints in range(6):
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(remote)
                            for _ in range(checkpoints):
                                await trio.lowlevel.checkpoint()
                            nursery.cancel_scope.cancel()
                    assert watched.running == watched.ended


async def test_what_cannot_be_pickled_is_refused_at_the_call() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(add).register(public=True):
                with two.entered():
                    remote = await located(one, "add")
                    with pytest.raises(NotPicklable):
                        await remote.run(threading.Lock())
                    with pytest.raises(TypeError, match="coro="):
                        await remote.run(1, coro=None)
                    assert await remote.run(1) == 11


async def test_a_result_that_cannot_be_pickled_is_an_error_of_that_call() -> None:
    async def unsendable() -> object:
        return threading.Lock()

    async with open_processes(2) as (one, two):
        with one.entered():
            async with RCI(unsendable, name="unsendable").register(public=True):
                with two.entered(), pytest.raises(NotPicklable):
                    await (await located(one, "unsendable")).run()


@pytest.mark.spec("B16")
async def test_rcis_are_found_by_name_across_the_computation() -> None:
    async with open_computation(2) as (client, servers):
        with servers[0].entered():
            async with RCI(add).register():
                for process in (client, *servers):
                    with process.entered():
                        assert await (await locate_rci("add")).run(1) == 11
                with servers[1].entered(), pytest.raises(NameTaken, match="the RCI 'add'"):
                    async with RCI(add).register():
                        pytest.fail("there are two")


async def test_an_rci_is_called_only_while_it_is_registered() -> None:
    rci = RCI(add)
    async with open_processes(1) as (one,):
        with one.entered():
            with pytest.raises(RuntimeError, match="not registered"):
                await rci.run(1)
            async with rci.register():
                assert await rci.run(1) == 11
                with pytest.raises(RuntimeError, match="already"):
                    await rci.register().__aenter__()
