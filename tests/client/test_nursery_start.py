"""`start` of a nursery over servers: what the coroutine says it has started with, or why it has not."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B01"),
]


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation(grace_period=2.0) as computation:
        yield computation


async def serve(port: int, *, task_status: trio.TaskStatus[str]) -> None:
    await trio.lowlevel.checkpoint()
    task_status.started(f"at {port}")
    await trio.sleep_forever()


async def test_start_gives_what_the_coroutine_has_started_with(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        assert await nursery.start(serve, 7) == "at 7"
        assert await nursery.start(start_large, name="large") == bytes(1_000_000)
        assert await nursery.start(start_in_thread) == "thread"
        nursery.cancel_scope.cancel()


async def start_large(*, task_status: trio.TaskStatus[bytes]) -> None:
    task_status.started(bytes(1_000_000))


def start_in_thread(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started("thread")


async def test_start_raises_what_the_coroutine_raised_before(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        with pytest.raises(ValueError, match="too early"):
            await nursery.start(fail_to_start)
        with pytest.raises(RuntimeError, match="ended without calling"):
            await nursery.start(forget_to_start)
        with pytest.raises(TypeError, match="task_status"):
            await nursery.start(pow, 1, 2)


async def fail_to_start(*, task_status: trio.TaskStatus[None]) -> None:
    message = "too early"
    raise ValueError(message)


async def forget_to_start(*, task_status: trio.TaskStatus[None]) -> None:
    pass


async def test_a_value_that_cannot_be_sent_is_an_error_of_the_one_who_starts(
    computation: discoro.Computation,
) -> None:
    async with computation.open_nursery() as nursery:
        assert await nursery.start(start_with_lock) == "in its place"


async def start_with_lock(*, task_status: trio.TaskStatus[object]) -> None:
    try:
        task_status.started(threading.Lock())
    except discoro.NotPicklable:
        task_status.started("in its place")


async def test_to_start_twice_is_an_error(computation: discoro.Computation) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            await nursery.start(start_twice)

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [str(error) for error in caught.value.exceptions] == ["task_status.started() can be called only once"]


async def start_twice(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    task_status.started()


async def test_what_fails_after_it_has_started_is_in_the_group(computation: discoro.Computation) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            await (await nursery.start(start_and_fail)).send("go on")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [str(error) for error in caught.value.exceptions] == ["later"]


async def start_and_fail(*, coro: discoro.Coro[None], task_status: trio.TaskStatus[discoro.Coro[None]]) -> None:
    task_status.started(coro)
    await coro.receive()
    message = "later"
    raise ValueError(message)


@pytest.mark.spec("B02")
async def test_a_cancelled_start_leaves_nothing(computation: discoro.Computation, tmp_path: Path) -> None:
    async with computation.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as local:
                local.start_soon(nursery.start, stay_without_word, tmp_path)
                while states(tmp_path) != ["runs"]:  # noqa: ASYNC110 (another process writes it)
                    await trio.sleep(0.005)
                scope.cancel()
        assert states(tmp_path) == ["clean"]
        assert computation.statistics().running == 0


async def stay_without_word(folder: Path, *, task_status: trio.TaskStatus[None]) -> None:
    mark = folder / "mark"
    mark.write_text("runs")
    try:
        await trio.sleep_forever()
    finally:
        mark.write_text("clean")


def states(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


async def start_with_the_name(*, task_status: trio.TaskStatus[str], coro: discoro.Coro[None]) -> None:
    task_status.started(coro.name)


async def test_a_name_is_the_coroutine_s(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        assert await nursery.start(start_with_the_name, name="chosen") == "chosen"
