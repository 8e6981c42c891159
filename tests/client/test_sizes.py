"""Results, errors and arguments that are larger than a message may be: an error for their caller alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

import discoro_trio as discoro

from .clusters import open_computation, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

LIMIT = 2_000_000


@pytest.fixture(autouse=True)
def small_messages() -> Iterator[None]:
    before = discoro.config.max_message_size
    discoro.config.max_message_size = LIMIT
    yield
    discoro.config.max_message_size = before


async def give(size: int) -> bytes:
    return bytes(size)


async def fail(size: int) -> None:
    raise ValueError("x" * size)


async def take(content: bytes) -> int:
    return len(content)


async def until_told(*, coro: discoro.Coro[str]) -> str:
    await coro.receive()
    return "still there"


@pytest.mark.fault("F18")
async def test_what_is_too_large_is_an_error_for_its_caller_alone() -> None:
    async with open_computation([give, fail, take, until_told], servers=1) as computation:
        neighbour = await computation.run(until_told)
        for size in (3_000_000, LIMIT - 10):
            with pytest.raises(discoro.NotPicklable, match=rf"has \d{{7}} bytes.*max_message_size allows {LIMIT}"):
                await computation.run_result(give, size)
        with pytest.raises(discoro.NotPicklable, match=f"max_message_size allows {LIMIT}"):
            await computation.run_result(fail, 3_000_000)
        with pytest.raises(discoro.NotPicklable, match=f"max_message_size allows {LIMIT}"):
            await computation.run_result(take, bytes(3_000_000))
        with pytest.raises(discoro.NotPicklable, match=f"the message has 3000.* allows {LIMIT}"):
            await neighbour.send(bytes(3_000_000))
        assert await computation.run_result(give, LIMIT - 10_000) == bytes(LIMIT - 10_000)
        assert await computation.run_result(take, bytes(LIMIT - 10_000)) == LIMIT - 10_000
        await neighbour.send("go on")
        assert await neighbour.result() == "still there"


async def test_a_client_that_takes_less_than_its_servers_gets_an_error_with_both_sizes() -> None:
    async with open_computation([give, until_told], servers=1) as computation:
        neighbour = await computation.run(until_told)
        discoro.config.max_message_size = 500_000
        with pytest.raises(discoro.NotPicklable, match=r"has 100\d+ bytes.*500000"):
            await computation.run_result(give, 1_000_000)
        await neighbour.send("go on")
        assert await neighbour.result() == "still there"


WITHOUT_MEMORY = """
import resource, trio
import discoro_trio as discoro

async def give(size):
    return bytes(size)

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([give]).schedule() as computation:
        assert await computation.run_result(give, 10) == bytes(10)
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000, resource.RLIM_INFINITY))
        try:
            await computation.run_result(give, 400_000_000)
        except discoro.NotPicklable as error:
            print(error)
        print(await computation.run_result(give, 10))

trio.run(main)
"""


@pytest.mark.fault("F18")
async def test_a_result_for_which_the_client_has_no_memory_is_an_error_for_its_caller_alone(tmp_path: Path) -> None:
    printed = await run_script(WITHOUT_MEMORY, tmp_path)
    assert "for which this process has no memory" in printed
    assert printed.endswith(f"{bytes(10)!r}\n")
