"""Blocks that need a place on the network open one if none encloses them; clocks that jump are refused."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio._link import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

SECRET = "7" * 64


@pytest.fixture
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORO_SECRET", SECRET)


def double(number: int) -> int:
    return 2 * number


async def run_scheduler(task_status: trio.TaskStatus[discoro.Location]) -> None:
    async with discoro.open_cluster(servers=1, secret=SECRET) as scheduler:
        task_status.started(scheduler.location)
        await trio.sleep_forever()


BLOCKS: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "open_coro": discoro.open_coro,
    "open_channel": lambda: discoro.open_channel("news"),
    "open_http_server": lambda: discoro.open_http_server(port=0, token="0123456789abcdef"),
}


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize("name", BLOCKS)
async def test_a_computation_is_scheduled_in_the_place_that_a_block_has_opened(name: str) -> None:
    block = BLOCKS[name]()
    async with trio.open_nursery() as nursery:
        location = await nursery.start(run_scheduler)
        with trio.fail_after(120):
            async with block as opened:
                endpoint = current.get()
                assert endpoint is not None
                assert endpoint.location.addr != "127.0.0.1" or "0.0.0.0" in str(endpoint.bound)  # noqa: S104
                status = opened if name == "open_coro" else getattr(opened, "status_coro", None)
                computation = discoro.Computation([double], status_coro=status)
                async with computation.schedule(location):
                    assert await computation.run_result(double, 4) == 8
        assert current.get() is None
        nursery.cancel_scope.cancel()


async def test_a_scheduler_that_is_not_found_from_loopback_says_so() -> None:
    async with discoro.open_endpoint(secret=SECRET):
        with pytest.raises(discoro.SchedulerNotFound, match=r"loopback only; open_endpoint\(ip_addr=''\)"):
            async with discoro.Computation(timeout=0.1).schedule():
                pass


async def test_a_clock_that_jumps_is_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    for block in (discoro.open_cluster(servers=1), discoro.open_endpoint(), discoro.open_coro()):
        with pytest.raises(RuntimeError, match="MockClock that jumps"):
            async with block:
                pass


def test_outside_of_trio_each_block_says_what_to_use() -> None:
    async def enter(block: AbstractAsyncContextManager[Any]) -> None:
        async with block:
            pass

    for block in (discoro.open_cluster(servers=1), discoro.open_endpoint(), discoro.open_scheduler()):
        with pytest.raises(RuntimeError, match=r"is not async, use discoro.connect\(\) or discoro.Executor"):
            asyncio.run(enter(block))


async def test_a_mailbox_has_the_name_that_it_is_given() -> None:
    async with discoro.open_coro("mine") as coro:
        assert coro.name == "mine"
