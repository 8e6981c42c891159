"""Coroutines at servers find each other and exchange messages, calls, files and large buffers."""

from __future__ import annotations

import sys
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation([be_found, find_and_greet, publish, follow, offer, call, negative]) as computation:
        yield computation


async def be_found(name: str, *, coro: discoro.Coro[Any]) -> Any:
    await coro.register(name)
    return await coro.receive()


async def find_and_greet(name: str, *, coro: discoro.Coro[Any]) -> bool:
    found = await discoro.locate(name)
    await found.deliver(("greetings", coro))
    return found.location != coro.location


async def publish(name: str, count: int) -> int:
    async with discoro.open_channel(name) as channel:
        reached = await channel.deliver(0, n=2)
        for number in range(1, count):
            await channel.send(number)
        return reached


async def follow(name: str) -> list[int]:
    channel = await discoro.locate_channel(name)
    async with channel.subscribe() as messages:
        return [message async for message in messages]


async def offer(*, coro: discoro.Coro[Any]) -> None:
    async with discoro.RCI(negative).register():
        await coro.receive()


async def negative(value: int) -> int:
    return -value


async def call(value: int) -> Any:
    return await (await discoro.locate_rci("negative")).run(value)


async def send_back(client: discoro.Location, name: str) -> str:
    """Send a file of the working folder to the client, under another name."""
    source = trio.Path(name)
    await source.rename(source.with_suffix(".out"))
    await discoro.send_file(client, source.with_suffix(".out"), dir="results")
    return str(await trio.Path.cwd())


def files(folder: Path) -> dict[str, int]:
    found = [path for path in folder.rglob("data*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_size for path in found}


async def double(*, coro: discoro.Coro[Any]) -> bool:
    sender, array = await coro.receive()
    await sender.send(array * 2)
    return bool(array.flags.writeable)


@pytest.mark.spec("B16", "S73")
async def test_two_servers_open_a_link_of_their_own_when_a_name_is_found(computation: discoro.Computation) -> None:
    one, two = await computation.servers()
    owner = await computation.run_at(one, be_found, "the one")
    finder = await computation.run_at(two, find_and_greet, "the one")
    assert await finder.result() is True
    assert await owner.result() == ("greetings", finder)


@pytest.mark.spec("B15")
async def test_channels_connect_servers_and_the_client(computation: discoro.Computation) -> None:
    one, two = await computation.servers()
    publisher = await computation.run_at(one, publish, "news", 2000)
    follower = await computation.run_at(two, follow, "news")
    assert await follow("news") == list(range(2000))
    assert await follower.result() == list(range(2000))
    assert await publisher.result() == 2


@pytest.mark.spec("S02")
async def test_functions_that_a_server_offers_are_called_from_everywhere(computation: discoro.Computation) -> None:
    one, two = await computation.servers()
    offering = await computation.run_at(one, offer)
    caller = await computation.run_at(two, call, 5)
    assert await caller.result() == -5
    assert await call(6) == -6
    await offering.send("enough")
    await offering.result()


@pytest.mark.spec("S14")
async def test_files_go_to_a_server_and_come_back(computation: discoro.Computation, tmp_path: Path) -> None:
    one, _ = await computation.servers()
    with chdir(tmp_path):
        await trio.Path("data.in").write_bytes(b"x" * 1_000_000)
        async with discoro.open_coro() as me:
            await discoro.send_file(one, "data.in")
            folder = await (await computation.run_at(one, send_back, me.location, "data.in")).result()
            await discoro.del_file(one, "data.out")
        assert files(tmp_path) == {"data.in": 1_000_000, "results/data.out": 1_000_000}
        assert not files(Path(folder))
    assert len(await computation.servers()) == 2, "no server was lost by the way"


@pytest.mark.spec("B17")
async def test_arrays_go_to_a_server_and_back_through_shared_memory(computation: discoro.Computation) -> None:
    array = np.arange(1_000_000, dtype=np.int64)
    async with discoro.open_coro() as me:
        for _ in range(3):
            rcoro = await computation.run(double)
            await rcoro.send((me, array))
            assert np.array_equal(await me.receive(), array * 2)
            assert await rcoro.result() is True, "an array may be changed by its receiver"
