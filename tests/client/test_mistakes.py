"""Common mistakes end at once, with a sentence that says what to write instead."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def double(number: int) -> int:
    return 2 * number


async def aio_double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


def forgets_to_await(number: int) -> Any:
    return aio_double(number)


async def test_a_plain_function_that_returns_a_coroutine() -> None:
    async with open_computation([aio_double, forgets_to_await], servers=1) as computation:
        with pytest.raises(TypeError, match="forgets_to_await is a plain function and returned a coroutine"):
            await computation.run_result(forgets_to_await, 1)
        with pytest.raises(TypeError, match="returned a coroutine"):
            await computation.run_result(lambda: aio_double(1))


@pytest.mark.parametrize("method", ["map", "starmap"])
async def test_a_map_whose_block_is_not_entered(method: str) -> None:
    async with open_computation([double], servers=1) as computation:
        mapping: Any = getattr(computation, method)(double, [1])
        with pytest.raises(TypeError, match=rf"write: async with computation\.{method}\("):
            await mapping
        with pytest.raises(TypeError, match=r"await computation\.run_results"):
            async for _ in mapping:
                pass


async def test_a_handle_in_a_thread_works_in_the_loop_of_its_block_and_says_so_elsewhere() -> None:
    found: list[object] = []

    async with open_computation([double], servers=1) as computation:
        coro = await computation.run(double, 4)
        token = trio.lowlevel.current_trio_token()

        def attempt(call: Callable[[], object]) -> None:
            try:
                found.append(call())
            except RuntimeError as error:
                found.append(str(error))

        def in_thread() -> None:
            attempt(lambda: trio.run(coro.result))
            attempt(lambda: trio.from_thread.run(coro.result, trio_token=token))

        thread = threading.Thread(target=in_thread)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
    refused, value = found
    assert "trio.from_thread.run(call, trio_token=token)" in str(refused)
    assert value == 8
    with pytest.raises(RuntimeError, match=r"enclose it in open_coro\(\)"):
        await discoro.locate("name")


async def test_localhost_is_the_name_of_a_node_at_a_loopback_address() -> None:
    async with open_computation([double], servers=1) as computation:
        (server,) = await computation.servers()
        for where in (f"localhost:{server.port}", "localhost"):
            coro = await computation.run_at(where, double, 2)
            assert await coro.result() == 4
