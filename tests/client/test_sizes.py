"""Results, errors and arguments that are larger than a message may be: an error for their caller alone."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import discoro_trio as discoro

from .clusters import open_computation, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import trio

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


class Large:
    """A function with much state."""

    def __init__(self) -> None:
        self.state = bytes(3_000_000)

    async def __call__(self) -> int:
        return len(self.state)


async def start(size: int, *, task_status: trio.TaskStatus[bytes]) -> None:
    task_status.started(bytes(size))


async def offer_and_wait(*, coro: discoro.Coro[str]) -> str:
    async with discoro.RCI(give, name="give").register(), discoro.open_channel("numbers"):
        await coro.receive()
        return "still there"


async def ask_for(asked: discoro.Coro[bytes]) -> int:
    return len(await asked.result())


async def deliver(server: discoro.Coro[str], _computation: discoro.Computation) -> None:
    await server.deliver(bytes(3_000_000))


async def publish(_server: discoro.Coro[str], _computation: discoro.Computation) -> None:
    await (await discoro.locate_channel("numbers")).send(bytes(3_000_000))


async def deliver_to_a_channel(_server: discoro.Coro[str], _computation: discoro.Computation) -> None:
    await (await discoro.locate_channel("numbers")).deliver(bytes(3_000_000))


async def call(_server: discoro.Coro[str], _computation: discoro.Computation) -> None:
    await (await discoro.locate_rci("give")).run(3_000_000)


async def run_what_has_state(_server: discoro.Coro[str], computation: discoro.Computation) -> None:
    await computation.run_result(Large())


async def report_the_start(_server: discoro.Coro[str], computation: discoro.Computation) -> None:
    with unwrapped():
        async with computation.open_nursery() as nursery:
            await nursery.start(start, 3_000_000)


async def let_a_server_ask(_server: discoro.Coro[str], computation: discoro.Computation) -> None:
    with unwrapped():
        async with discoro.open_nursery() as nursery:
            await computation.run_result(ask_for, await nursery.run(give, 3_000_000))


async def give_functions_to_nodes(_server: discoro.Coro[str], _computation: discoro.Computation) -> None:
    async with discoro.Computation([give], server_setup=Large()).schedule():
        pytest.fail("it is scheduled")


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the only error of a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        (error,) = group.exceptions
        raise error from None


WAYS = [
    deliver,
    publish,
    deliver_to_a_channel,
    call,
    run_what_has_state,
    report_the_start,
    let_a_server_ask,
    give_functions_to_nodes,
]


@pytest.mark.fault("F18")
async def test_whatever_way_too_much_is_sent_in_only_its_caller_gets_an_error() -> None:
    functions = [give, start, offer_and_wait, ask_for, Large]
    async with open_computation(functions, servers=1, seconds=60) as computation:
        neighbour = await computation.run(offer_and_wait)
        await discoro.locate_rci("give")
        await discoro.locate_channel("numbers")
        for way in WAYS:
            with pytest.raises(discoro.NotPicklable, match=rf"has 300\d+ bytes.* allows {LIMIT}"):
                await way(neighbour, computation)
        async with computation.map(give, [1, 3_000_000, 2], chunksize=3, errors="collect") as results:
            kinds = [type(result) async for result in results]
        assert kinds == [bytes, discoro.NotPicklable, bytes]
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
