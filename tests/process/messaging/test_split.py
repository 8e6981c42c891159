from __future__ import annotations

from typing import Any

import pytest
import trio

from discoro_trio._process import Coro, open_coro, split_mailbox

from ..worlds import elsewhere, open_processes, settle, spawn


async def idle(*, coro: Coro[Any]) -> None:
    await trio.sleep_forever()


async def test_messages_are_sorted_and_keep_their_order() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_coro() as coro, split_mailbox(coro, type, [int, str]) as parts:
                with two.entered():
                    for message in (1, "a", 2, "b", 3):
                        await elsewhere(coro).send(message)
                assert [await parts[int].receive() for _ in range(3)] == [1, 2, 3]
                assert [await parts[str].receive() for _ in range(2)] == ["a", "b"]


async def test_a_full_part_makes_the_senders_wait_until_it_is_received_or_closed() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_coro(mailbox_size=2) as coro, split_mailbox(coro, bool, [True, False], limit=1) as parts:
                sent = 0

                async def send() -> None:
                    nonlocal sent
                    for _ in range(20):
                        await elsewhere(coro).send(1)
                        sent += 1
                    await elsewhere(coro).send(0)

                with two.entered():
                    nursery.start_soon(send)
                    await settle()
                assert sent == 4, "in the part, on its way there, and in the mailbox"
                assert await parts[True].receive() == 1
                await parts[True].aclose()
                assert await parts[False].receive() == 0


async def test_what_was_not_sorted_stays_in_the_mailbox() -> None:
    async with open_processes(1) as (one,):
        with one.entered():
            async with open_coro() as coro:
                async with split_mailbox(coro, str, ["a"]):
                    await settle()
                await coro.send("later")
                assert await coro.receive() == "later"


async def test_a_part_that_is_not_listed_is_an_error_of_the_block() -> None:
    async with open_processes(1) as (one,):
        with one.entered():
            async with open_coro() as coro:
                with pytest.raises(ValueError, match=r"'b' is none of the parts.*: 'a'"):
                    async with split_mailbox(coro, str, ["a"]):
                        await coro.send("b")
                        await trio.sleep_forever()


async def test_only_the_coroutine_itself_splits_its_mailbox() -> None:
    async with open_processes(1) as (one,), trio.open_nursery() as nursery:
        other = spawn(nursery, one, idle)
        with one.entered(), pytest.raises(RuntimeError, match="not the calling coroutine"):
            await split_mailbox(other, str, ["a"]).__aenter__()
        nursery.cancel_scope.cancel()
