"""Large buffers between processes of one machine: they arrive as they were sent, in order, and memory is used again."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import trio

from discoro_trio._config import MIB
from discoro_trio._link.shared_memory import _mapping, _pool, _sharing
from discoro_trio._link.shared_memory._pool import Pool
from discoro_trio._process import Coro, Process, open_coro

from ..worlds import cut, elsewhere, open_processes, settle, spawn

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are no sealed segments elsewhere"),
    pytest.mark.spec("B17"),
]


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give a list of where each buffer was put, None for those that found no room."""
    places: list[Any] = []
    put = Pool.put

    def noted(self: Pool[Any], *args: Any) -> Any:
        places.append(put(self, *args))
        return places[-1]

    monkeypatch.setattr(Pool, "put", noted)
    return places


async def take(count: int, *, coro: Coro[Any]) -> list[Any]:
    return [await coro.receive() for _ in range(count)]


async def result_of(process: Process, coro: Coro[Any]) -> Any:
    with process.entered():
        return await coro.result()


async def acquainted(one: Process, coro: Coro[Any]) -> Coro[Any]:
    """Let the two processes agree on shared memory before anything large is sent."""
    handle = elsewhere(coro)
    await handle.deliver("hello")
    await settle()
    return handle


@pytest.mark.spec("B29")
async def test_arrays_go_through_shared_memory_and_are_the_receivers_own(puts: list[Any]) -> None:
    array = np.arange(3 * MIB, dtype=np.uint8)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 2)
        with one.entered():
            await (await acquainted(one, receiver)).send(array)
        _, got = await result_of(two, receiver)
        assert np.array_equal(got, array)
        got += 1
        assert array[1] == 1
        assert got[1] == 2
        assert len(puts) == 1
        assert puts[0] is not None


async def test_all_kinds_and_sizes_keep_their_order_and_content(puts: list[Any]) -> None:
    messages = [b"a" * MIB, b"b" * 100, bytearray(b"c" * 2 * MIB), b"d" * (MIB - 1), (1, b"e" * 70_000, b"f" * MIB)]
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 1 + 2 * len(messages))
        with one.entered():
            handle = await acquainted(one, receiver)
            for message in messages:
                await handle.send(message)
                await handle.deliver(message)
        got = await result_of(two, receiver)
        assert got[1:] == [message for message in messages for _ in range(2)]
        assert [type(item) for item in got[1::2]] == [type(message) for message in messages]
        assert len(puts) == 6


async def test_a_segment_is_used_again_when_nothing_refers_to_what_was_in_it(puts: list[Any]) -> None:
    async with open_processes(2) as (one, two):
        with two.entered():
            async with open_coro() as receiver:
                with one.entered():
                    handle = await acquainted(one, receiver)
                with two.entered():
                    await receiver.receive()
                kept: list[Any] = []
                for number in range(4):
                    with one.entered():
                        await handle.send(np.full(MIB, number, dtype=np.uint8))
                    got = await receiver.receive()
                    assert got[0] == got[-1] == number
                    if number == 2:
                        kept.append(got)
                    del got
                    gc.collect()
                    await settle()
                assert len({place.segment for place in puts[:3]}) == 1
                assert puts[3].segment != puts[2].segment, "the last but one is still referred to"
                assert kept[0][0] == 2


async def change(count: int, *, coro: Coro[Any]) -> list[tuple[int, int]]:
    """Give the sums of arrays as they arrive, and after they were changed in place."""
    await coro.receive()
    sums = []
    for _ in range(count):
        array = await coro.receive()
        before = int(array.sum())
        array[::1000] += 1
        sums.append((before, int(array.sum())))
        del array
    return sums


@pytest.mark.spec("B29")
async def test_what_one_receiver_changed_is_not_seen_in_what_comes_next_in_the_same_segment(puts: list[Any]) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, change, 6)
        with one.entered():
            handle = await acquainted(one, receiver)
            for number in range(6):
                await handle.deliver(np.full(MIB, number, dtype=np.int64))
                await settle()
        changed = len(range(0, MIB, 1000))
        assert await result_of(two, receiver) == [(number * MIB, number * MIB + changed) for number in range(6)]
        assert len({place.segment for place in puts}) < 6


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give a list of what was mapped."""
    segments: list[Any] = []

    def noted(*args: Any) -> Any:
        segments.append(weakref.ref(mapped := _mapping.map_untrusted(*args)))
        return mapped

    monkeypatch.setattr(_sharing, "map_untrusted", noted)
    return segments


async def test_a_segment_that_is_used_again_is_not_mapped_again(puts: list[Any], maps: list[Any]) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, look_at, 5)
        with one.entered():
            handle = await acquainted(one, receiver)
            for number in range(5):
                await handle.deliver(np.full(MIB, number, dtype=np.uint8))
                await settle()
        assert await result_of(two, receiver) == [0, 1, 2, 3, 4]
        assert len(puts) == 5
        assert len(maps) == len({place.segment for place in puts}) == 2, "one is looked at while the next one comes"


async def look_at(count: int, *, coro: Coro[Any]) -> list[int]:
    """Take arrays and keep none but the last one."""
    looked = []
    await coro.receive()
    for _ in range(count):
        array = await coro.receive()
        looked.append(int(array[-1]))
    return looked


async def test_a_segment_stays_mapped_until_its_process_drops_it(
    maps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "MOST_SEGMENTS", 2)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, look_at, 3)
        with one.entered():
            handle = await acquainted(one, receiver)
            await handle.deliver(np.zeros(3 * MIB, dtype=np.uint8))
            await handle.deliver(np.zeros(9 * MIB, dtype=np.uint8))
            await settle()
            assert [mapped() is not None for mapped in maps] == [True, True]
            await handle.deliver(np.zeros(MIB, dtype=np.uint8))
            await settle()
            assert [mapped() is not None for mapped in maps] == [False, True, True]
        await result_of(two, receiver)
    assert [mapped() is not None for mapped in maps] == [False, False, False]


async def test_who_maps_many_segments_gets_copies_of_the_next(puts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapping, "MOST_MAPPED", 2)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 6)
        with one.entered():
            handle = await acquainted(one, receiver)
            for number in range(5):
                await handle.deliver(np.full(MIB, number, dtype=np.uint8))
        got = (await result_of(two, receiver))[1:]
        assert [array[-1] for array in got] == list(range(5))
        assert all(array.flags.writeable for array in got)
        await settle()
        # The first two are mapped; the segment of the third is free again and serves the others.
        assert [place.segment for place in puts] == [1, 2, 3, 3, 3]


async def test_what_is_mapped_and_not_referred_to_makes_room(maps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mapping, "MOST_MAPPED", 1)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, look_at, 3)
        with one.entered():
            handle = await acquainted(one, receiver)
            for size in (3, 9, 1):  # the second one is copied, for the first one is still looked at when it comes
                await handle.deliver(np.full(size * MIB, size, dtype=np.uint8))
                await settle()
            assert [mapped() is not None for mapped in maps] == [False, True]
        assert await result_of(two, receiver) == [3, 9, 1]


async def test_what_finds_no_room_goes_over_the_connection(puts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        monkeypatch.setattr(Pool, "_free", lambda *_: None)
        receiver = spawn(nursery, two, take, 2)
        with one.entered():
            await (await acquainted(one, receiver)).send(b"x" * 3 * MIB)
        assert (await result_of(two, receiver))[1] == b"x" * 3 * MIB
        assert puts == [None]


async def test_without_segments_all_goes_over_the_connection(puts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "AVAILABLE", False)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 2)
        with one.entered():
            await (await acquainted(one, receiver)).send(b"x" * 3 * MIB)
        assert (await result_of(two, receiver))[1] == b"x" * 3 * MIB
        assert not puts


async def test_what_a_peer_may_not_open_goes_over_the_connection(
    puts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sharing, "read_probe_untrusted", lambda *_: b"")  # as it is among different users
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 2)
        with one.entered():
            await (await acquainted(one, receiver)).send(b"x" * 3 * MIB)
        assert (await result_of(two, receiver))[1] == b"x" * 3 * MIB
        assert not puts


async def test_a_lost_link_takes_its_segments_along_and_a_new_one_has_others(puts: list[Any], maps: list[Any]) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 4)
        with one.entered():
            handle = await acquainted(one, receiver)
            await handle.deliver(np.zeros(MIB, dtype=np.uint8))
            cut(one, two)
            await settle()
            again = await acquainted_again(handle)
            await again.send(np.ones(MIB, dtype=np.uint8))
        _, first, _, second = await result_of(two, receiver)
        assert not first.any()
        assert second.all()
        assert [place is not None for place in puts] == [True, True]


async def acquainted_again(handle: Coro[Any]) -> Coro[Any]:
    try:
        await handle.deliver("hello again")
    except Exception:  # noqa: BLE001 - the first send after a lost link
        await handle.deliver("hello again")
    await settle()
    return handle
