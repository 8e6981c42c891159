"""Arrays and frames there and back: what arrives may be changed, whatever its size and its route."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B29"),
]

SIZES = (1, 100, 8_000, 8_200, 100_000, 131_072, 600_000)
"""Lengths of arrays of 8 bytes an item: around 64 KiB and 1 MiB."""


def add_one(array: Any) -> Any:
    array += 1
    return array


def change_frame(frame: Any) -> Any:
    frame.loc[frame["a"] > 1, "a"] = 0
    frame.iloc[0, 0] = 7
    return frame


def echo(value: Any) -> Any:
    return value


async def add_one_to_message(client: discoro.Coro[Any], *, coro: discoro.Coro[Any]) -> None:
    async for array in coro:
        await client.send(add_one(array))


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation([add_one, change_frame, echo, add_one_to_message], servers=1, seconds=60) as opened:
        yield opened


def arrays(length: int) -> list[Any]:
    plain = np.arange(length, dtype=np.int64)
    square = np.arange(length * 2, dtype=np.int64).reshape(2, length)
    return [plain, plain[::-1], square, np.asfortranarray(square), square.T]


async def test_arrays_can_be_changed_by_the_job_that_gets_them_and_by_the_client(
    computation: discoro.Computation,
) -> None:
    for length in SIZES:
        for array in arrays(length):
            before = array.copy()
            got = await computation.run_result(add_one, array)
            got += 1
            assert np.array_equal(got, before + 2), length
            assert np.array_equal(array, before), "the sender's own stays as it was"


async def test_an_array_that_the_sender_cannot_change_arrives_so_at_every_size(
    computation: discoro.Computation,
) -> None:
    for length in SIZES:
        array = np.arange(length)
        array.setflags(write=False)
        assert not (await computation.run_result(echo, array)).flags.writeable


async def test_arrays_in_messages_can_be_changed_at_both_ends(computation: discoro.Computation) -> None:
    async with discoro.open_coro() as me:
        coro = await computation.run(add_one_to_message, me)
        for length in SIZES:
            for array in arrays(length):
                await coro.send(array)
                got = await me.receive()
                got += 1
                assert np.array_equal(got, array + 2), length
        await coro.terminate()


async def test_the_subscribers_of_a_channel_do_not_share_an_array(computation: discoro.Computation) -> None:
    assert await computation.servers()
    array = np.arange(300_000)
    async with discoro.open_channel("arrays") as channel, trio.open_nursery() as nursery:

        async def take() -> None:
            async with discoro.open_coro() as me, channel.subscribe_coro(me):
                got = await me.receive()
                assert np.array_equal(got, array)

        for _ in range(2):
            nursery.start_soon(take)
        await channel.deliver(array, n=2)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
async def test_frames_of_every_library_go_there_and_back(library: str, computation: discoro.Computation) -> None:
    module = importlib.import_module(library)
    for length in SIZES:
        columns = {"a": np.arange(length), "b": np.linspace(0, 1, length)}
        if library == "pandas":
            frame = module.DataFrame(columns)
            got = await computation.run_result(change_frame, frame)
            expected = change_frame(frame.copy())
            assert got.equals(expected)
            got.loc[:, "b"] = 0.0
            got.iloc[0, 1] = 1.0
        elif library == "polars":
            frame = module.DataFrame(columns)
            assert (await computation.run_result(echo, frame)).equals(frame)
        else:
            table = module.table(columns)
            assert (await computation.run_result(echo, table)).equals(table)
