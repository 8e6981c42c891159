"""`asyncio_job`: functions of asyncio as jobs; and hints for those that are run without it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def double(number: int) -> int:
    await asyncio.sleep(0.01)
    return 2 * number


async def loop_of(_number: int) -> int:
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


@discoro.asyncio_job
async def name_of_coro() -> str:
    await asyncio.sleep(0)
    return discoro.current_coro().name


@discoro.asyncio_job
async def fail() -> None:
    await asyncio.sleep(0)
    message = "in asyncio"
    raise ValueError(message)


@discoro.asyncio_job
async def cancel_itself() -> None:
    raise asyncio.CancelledError


@discoro.asyncio_job
async def wait_and_clean_up(folder: str) -> None:
    Path(folder, "runs").touch()  # noqa: ASYNC240
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0.01)
        Path(folder, "cleaned up").touch()  # noqa: ASYNC240


async def await_future() -> None:
    await asyncio.Future(loop=asyncio.new_event_loop())


async def test_asyncio_functions_run_in_one_loop_of_their_server(tmp_path: Path) -> None:
    async with open_computation([double, loop_of, name_of_coro, fail], servers=1) as computation:
        assert await computation.run_results(discoro.asyncio_job(double), range(5)) == [0, 2, 4, 6, 8]
        assert len(set(await computation.run_results(discoro.asyncio_job(loop_of), range(5)))) == 1
        assert await computation.run_result(name_of_coro) == "name_of_coro"
        with pytest.raises(ValueError, match="in asyncio"):
            await computation.run_result(fail)
        with pytest.raises(discoro.CoroCancelled, match="asyncio task"):
            await computation.run_result(cancel_itself)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(computation.run_result, wait_and_clean_up, str(tmp_path))
            while not await trio.Path(tmp_path, "runs").exists():  # noqa: ASYNC110 (the job has no other way to say it)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert await trio.Path(tmp_path, "cleaned up").exists()


@pytest.mark.parametrize("job", [double, await_future])
async def test_an_asyncio_function_without_it_fails_with_a_hint(job: object) -> None:
    async with open_computation([double, await_future], servers=1) as computation:
        with pytest.raises((RuntimeError, TypeError)) as caught:
            await computation.run_result(job, *([1] if job is double else []))  # type: ignore[arg-type]
        assert "run discoro.asyncio_job(function) in its place" in "".join(caught.value.__notes__)
