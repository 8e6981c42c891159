"""Messages that go together: numbers, short text and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from discoro_trio._process import open_channel

from ..worlds import elsewhere, open_processes, spawn
from .test_mail import result_of, take

if TYPE_CHECKING:
    from discoro_trio._process import Coro


async def test_short_values_arrive_as_what_they_were_between_others() -> None:
    class Count(int):
        pass

    messages = [0, 1.5, True, None, "text", b"bytes", (1, "a"), 1 << 80, "é", "x" * 100, Count, -5, [1], "last"]
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, len(messages))
        with one.entered():
            handle = elsewhere(receiver)
            for message in messages:
                await handle.send(message)
        got = await result_of(two, receiver)
        assert [(type(message), message) for message in got] == [(type(message), message) for message in messages]


async def test_a_message_is_what_it_was_at_the_call() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 30)
        with one.entered():
            handle = elsewhere(receiver)
            changing: list[int] = []
            for number in range(10):
                for message in (number, changing, bytearray(b"%d" % number)):
                    await handle.send(message)
                changing.append(number)
        got = await result_of(two, receiver)
        assert got[1::3] == [list(range(number)) for number in range(10)]


async def test_short_values_of_many_senders_are_in_the_order_of_each() -> None:
    async def send_all(handle: Coro[Any], name: str) -> None:
        for number in range(200):
            await handle.send(f"{name}{number}")

    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 600, mailbox_size=50)
        handle = elsewhere(receiver)
        for name in "abc":
            spawn(nursery, one, send_all, handle, name)
        got = await result_of(two, receiver)
        for name in "abc":
            assert [message for message in got if message[0] == name] == [f"{name}{number}" for number in range(200)]


async def test_short_values_are_passed_on_by_a_channel() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("numbers") as channel, channel.subscribe() as messages:

                async def publish() -> None:
                    for number in range(100):
                        await elsewhere(channel).send(number)

                spawn(nursery, two, publish)
                assert [await messages.receive() for _ in range(100)] == list(range(100))
