from __future__ import annotations

import threading
from typing import Any

import pytest
import trio

from discoro_trio import MailboxClosed, NotPicklable, PeerDisconnected, config
from discoro_trio._link.shared_memory import _pool
from discoro_trio._process import Coro, Process, open_coro

from ..worlds import cut, elsewhere, open_process, open_processes, settle, spawn


class Unopenable:
    """Can be sent, and not be opened."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


async def take(count: int, *, coro: Coro[Any]) -> list[Any]:
    return [await coro.receive() for _ in range(count)]


async def idle(*, coro: Coro[Any]) -> None:
    await trio.sleep_forever()


async def take_when(gate: trio.Event, count: int, *, coro: Coro[Any]) -> list[Any]:
    await gate.wait()
    return [await coro.receive() for _ in range(count)]


async def result_of(process: Process, coro: Coro[Any]) -> Any:
    with process.entered():
        return await coro.result()


async def test_messages_of_one_coroutine_arrive_in_order() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 3000)
        with one.entered():
            handle = elsewhere(receiver)
            for number in range(3000):
                await handle.send(number)
        assert await result_of(two, receiver) == list(range(3000))


async def test_order_holds_between_small_and_large_messages() -> None:
    messages = [b"x" * size for size in (10, 700_000, 20, 0, 300_000, 3_000_000, 5)]
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, len(messages))
        with one.entered():
            for message in messages:
                await elsewhere(receiver).send(message)
        assert await result_of(two, receiver) == messages


@pytest.mark.parametrize("small", [1, "text" * 100])
async def test_a_large_message_does_not_delay_a_small_one_of_the_same_coroutine_to_another_receiver(
    small: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pool, "AVAILABLE", False)
    received: list[object] = []

    async def note(count: int, *, coro: Coro[Any]) -> None:
        for _ in range(count):
            message = await coro.receive()
            received.append("large" if isinstance(message, bytes) else message)

    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver, other = spawn(nursery, two, note, 2), spawn(nursery, two, note, 1)
        with one.entered():
            await elsewhere(receiver).send(bytes(64 << 20))
            await elsewhere(other).send(small)
            await elsewhere(receiver).send("later")  # order holds between one coroutine and one receiver
        await result_of(two, receiver)
    assert received == [small, "large", "later"]


@pytest.mark.spec("B06")
async def test_a_receiver_that_never_reads_costs_its_senders_their_window_and_nobody_else() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        deaf = elsewhere(spawn(nursery, two, idle, mailbox_size=5))
        receiver = spawn(nursery, two, take, 2000)
        sent = 0

        async def fill() -> None:
            nonlocal sent
            while True:
                await deaf.send(sent)
                sent += 1

        with one.entered():
            nursery.start_soon(fill)
            for number in range(2000):
                await elsewhere(receiver).send(number)
        assert await result_of(two, receiver) == list(range(2000))
        assert sent == 5
        nursery.cancel_scope.cancel()


@pytest.mark.spec("B06")
@pytest.mark.parametrize("message", [7, (7,)])
async def test_what_was_received_may_be_sent_again_also_if_it_is_less_than_is_returned_at_once(message: object) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()

        async def take_some(*, coro: Coro[Any]) -> None:
            await gate.wait()
            for _ in range(3):
                await coro.receive()
            await trio.sleep_forever()

        handle = elsewhere(spawn(nursery, two, take_some, mailbox_size=10))
        sent = 0
        with one.entered(), pytest.raises(trio.TooSlowError), trio.fail_after(1):
            while True:
                await handle.send(message)
                sent += 1
                if sent == 10:
                    gate.set()
        assert sent == 13
        nursery.cancel_scope.cancel()


async def test_the_window_of_bytes_stops_a_sender_too() -> None:
    size = config.mailbox_bytes // 4
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, two, take_when, gate, 6)
        sent = 0

        async def fill() -> None:
            nonlocal sent
            for _ in range(6):
                await elsewhere(receiver).send(b"x" * (size - 100))
                sent += 1

        with one.entered():
            nursery.start_soon(fill)
            await settle()
            assert sent == 4
            gate.set()
        assert len(await result_of(two, receiver)) == 6


async def test_one_message_larger_than_the_window_goes_in_when_the_mailbox_is_empty() -> None:
    large = b"x" * (config.mailbox_bytes + 1)

    async def poll(*, coro: Coro[Any]) -> list[int]:
        sizes = [len(await coro.receive())]
        while True:
            await trio.lowlevel.checkpoint()
            try:
                sizes.append(len(coro.receive_nowait()))
            except trio.WouldBlock:
                if len(sizes) == 3:
                    return sizes

    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, poll)
        with one.entered():
            for message in (b"small", large, large):
                await elsewhere(receiver).send(message)
        assert await result_of(two, receiver) == [5, len(large), len(large)]


async def test_a_large_message_waits_only_until_the_mailbox_is_empty_not_until_its_coroutine_waits_again() -> None:
    large = b"x" * (config.mailbox_bytes + 1)
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        taken = trio.Event()

        async def take_one_and_do_something_else(*, coro: Coro[Any]) -> None:
            await coro.receive()
            taken.set()
            await trio.sleep_forever()

        receiver = elsewhere(spawn(nursery, two, take_one_and_do_something_else))
        with one.entered():
            await receiver.send("small")
            await receiver.deliver(large)
        nursery.cancel_scope.cancel()


async def test_a_large_message_goes_though_the_word_that_it_waits_comes_before_what_it_waits_for() -> None:
    """Here a message to another coroutine holds up the short one, and the window is taken up by that."""
    large = b"x" * (config.mailbox_bytes + 1)
    messages = [0, large, 1]
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        other = spawn(nursery, two, take, 1)
        receiver = spawn(nursery, two, take, len(messages), mailbox_size=4)
        with one.entered():
            await elsewhere(other).send(b"y" * 3_000_000)
            for message in messages:
                await elsewhere(receiver).send(message)
        assert await result_of(two, receiver) == messages


async def test_a_cancelled_send_was_not_sent_and_gives_its_turn_up() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, two, take_when, gate, 3, mailbox_size=2)
        handle = elsewhere(receiver)
        with one.entered():
            await handle.send(0)
            await handle.send(1)
            async with trio.open_nursery() as senders:
                given_up = trio.CancelScope()

                async def give_up() -> None:
                    with given_up:
                        await handle.send("never")

                senders.start_soon(give_up)
                await settle()
                senders.start_soon(handle.send, 2)
                await settle()
                given_up.cancel()
                await settle()
                gate.set()
        assert await result_of(two, receiver) == [0, 1, 2]


async def test_cancelled_sends_use_no_credit() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, two, take_when, gate, 3, mailbox_size=2)
        handle = elsewhere(receiver)
        with one.entered():
            await handle.send(0)
            await handle.send(1)
            for _ in range(2):  # as many as there is credit
                with trio.CancelScope() as given_up:
                    given_up.cancel()
                    await handle.send("never")
                async with trio.open_nursery() as senders:
                    senders.start_soon(handle.send, "never")
                    await settle()
                    senders.cancel_scope.cancel()
            gate.set()
            await handle.send(2)
        assert await result_of(two, receiver) == [0, 1, 2]


async def test_senders_of_one_process_take_turns() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, two, take_when, gate, 40, mailbox_size=1)
        handle = elsewhere(receiver)

        async def send_ten(name: str) -> None:
            for _ in range(10):
                await handle.send(name)

        with one.entered():
            for name in "abcd":
                nursery.start_soon(send_ten, name)
            await settle()
            gate.set()
        got = await result_of(two, receiver)
        for end in range(36):
            counts = [got[:end].count(name) for name in "abcd"]
            assert max(counts) - min(counts) <= 2


async def test_after_a_lost_link_the_first_send_of_every_sender_raises_and_the_next_one_arrives() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, idle)
        handle = elsewhere(receiver)
        again = trio.Event()
        heard: list[str] = []

        async def send_over_the_cut(name: str, *, coro: Coro[Any]) -> None:
            await handle.send(f"{name} before")
            await again.wait()
            try:
                await handle.send(f"{name} gap")
            except PeerDisconnected:
                heard.append(name)
            await handle.deliver(f"{name} after")

        senders = [spawn(nursery, one, send_over_the_cut, name) for name in ("a", "b")]
        await settle()
        cut(one, two)
        await settle()
        again.set()
        for sender in senders:
            await result_of(one, sender)
        assert sorted(heard) == ["a", "b"]
        nursery.cancel_scope.cancel()


async def test_a_sender_whose_messages_all_arrived_before_the_cut_may_not_be_told_but_loses_nothing() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 3)
        with one.entered():
            handle = elsewhere(receiver)
            await handle.deliver(1)
            await settle()
            cut(one, two)
            await settle()
            with pytest.raises(PeerDisconnected):
                await handle.send("lost")
            await handle.send(2)
            await handle.send(3)
        assert await result_of(two, receiver) == [1, 2, 3]


async def test_senders_that_wait_hear_of_a_lost_link() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        handle = elsewhere(spawn(nursery, two, idle, mailbox_size=1))
        with one.entered():
            await handle.send(0)
            async with trio.open_nursery() as senders:

                async def send() -> None:
                    with pytest.raises(PeerDisconnected, match="may not have arrived"):
                        await handle.send(1)

                senders.start_soon(send)
                await settle()
                cut(one, two)
        nursery.cancel_scope.cancel()


async def test_a_delivery_over_a_lost_link_raises() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        handle = elsewhere(spawn(nursery, two, idle, mailbox_size=1))
        with one.entered():
            await handle.deliver(0)
            async with trio.open_nursery() as senders:

                async def deliver() -> None:
                    with pytest.raises(PeerDisconnected):
                        await handle.deliver(1)

                senders.start_soon(deliver)
                await settle()
                cut(two, one)
        nursery.cancel_scope.cancel()


async def test_a_delivered_message_is_in_the_mailbox() -> None:
    async with open_processes(2) as (one, two):
        with two.entered():
            async with open_coro() as receiver:
                with one.entered():
                    await elsewhere(receiver).deliver({"a": 1})
                assert receiver.receive_nowait() == {"a": 1}


async def test_a_delivery_to_an_ended_coroutine_raises() -> None:
    async with open_processes(2) as (one, two):
        with two.entered():
            async with open_coro() as receiver:
                handle = elsewhere(receiver)
        with one.entered():
            with pytest.raises(MailboxClosed):
                await handle.deliver(1)
            with pytest.raises(trio.BrokenResourceError):
                await handle.send(2)


async def test_sends_raise_once_the_end_of_the_receiver_is_known() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 1)
        with one.entered():
            handle = elsewhere(receiver)
            await handle.send(1)
            await result_of(two, receiver)
            await settle()
            with pytest.raises(MailboxClosed, match="has ended"):
                await handle.send(2)
            with pytest.raises(MailboxClosed):
                handle.send_nowait(3)


async def test_senders_that_wait_hear_of_the_end() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        stop = trio.CancelScope()

        async def end_when_told(*, coro: Coro[Any]) -> None:
            with stop:
                await trio.sleep_forever()

        handle = elsewhere(spawn(nursery, two, end_when_told, mailbox_size=1))
        with one.entered():
            await handle.send(0)
            async with trio.open_nursery() as senders:

                async def send() -> None:
                    with pytest.raises(MailboxClosed):
                        await handle.send(1)

                senders.start_soon(send)
                await settle()
                stop.cancel()


async def test_what_cannot_be_sent_is_refused_at_once_and_costs_no_window() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take, 2, mailbox_size=1)
        with one.entered():
            handle = elsewhere(receiver)
            for _ in range(3):
                with pytest.raises(NotPicklable):
                    await handle.send(threading.Lock())
            await handle.send(1)
            await handle.send(2)
        assert await result_of(two, receiver) == [1, 2]


@pytest.mark.fault("F18")
async def test_a_message_that_cannot_be_opened_costs_that_message_alone() -> None:
    async def take_three(*, coro: Coro[Any]) -> list[Any]:
        got = [await coro.receive()]
        with pytest.raises(ValueError, match="invalid literal"):
            await coro.receive()
        return [*got, await coro.receive()]

    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        receiver = spawn(nursery, two, take_three)
        with one.entered():
            handle = elsewhere(receiver)
            for message in (1, Unopenable(), 2):
                await handle.send(message)
        assert await result_of(two, receiver) == [1, 2]


async def test_sending_without_waiting_says_when_it_would_have_to() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, two, take_when, gate, 2, mailbox_size=2)
        with one.entered():
            handle = elsewhere(receiver)
            with pytest.raises(trio.WouldBlock):
                handle.send_nowait("no connection yet")
            await settle()
            handle.send_nowait(1)
            handle.send_nowait(2)
            with pytest.raises(trio.WouldBlock):
                handle.send_nowait(3)
            gate.set()
        assert await result_of(two, receiver) == [1, 2]


async def test_a_handle_that_is_passed_on_works_in_the_third_process() -> None:
    async def pass_on(*, coro: Coro[Any]) -> None:
        handle, target = await coro.receive()
        await target.send(handle)

    async def use(*, coro: Coro[Any]) -> None:
        handle = await coro.receive()
        await handle.deliver("from the third")

    async with open_processes(3) as (one, two, three), trio.open_nursery() as nursery:
        receiver = spawn(nursery, one, take, 1)
        user = spawn(nursery, three, use)
        middle = spawn(nursery, two, pass_on)
        with one.entered():
            await elsewhere(middle).send((receiver, user))
        assert await result_of(one, receiver) == ["from the third"]


async def test_a_handle_of_a_process_that_ended_reaches_nobody() -> None:
    async with open_processes(1) as (one,):
        async with open_process() as two:
            with two.entered():
                async with open_coro() as receiver:
                    handle = elsewhere(receiver)
        with one.entered():
            with pytest.raises(PeerDisconnected, match="cannot be reached"):
                await handle.send(1)
            with pytest.raises(PeerDisconnected, match="cannot be reached"):
                await handle.deliver(1)


async def test_after_the_end_of_its_process_a_mailbox_is_closed_and_nothing_is_dialled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_processes(1) as (one,):
        async with open_process() as two:
            with two.entered():
                async with open_coro() as receiver:
                    handle, other = elsewhere(receiver), elsewhere(receiver)
                    other.serial += 1
                    with one.entered():
                        await handle.deliver(1)
                    link = one.endpoint.links[two.id]
        await link.ended.wait()
        monkeypatch.setattr(one.endpoint, "open_connection", None)
        with one.entered():
            for coro in (handle, other):
                with pytest.raises(MailboxClosed):
                    coro.send_nowait(1)
                for deliver in (coro.send, coro.deliver):
                    with pytest.raises(MailboxClosed, match="has ended"):
                        await deliver(1)


async def test_a_process_that_is_lost_for_good_takes_no_messages_though_it_still_listens() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        handle = elsewhere(spawn(nursery, two, idle))
        with one.entered():
            await handle.deliver(1)
            one.mail.process_ended(two.id)
            for deliver in (handle.send, handle.deliver):
                with pytest.raises(MailboxClosed):
                    await deliver(1)
            with pytest.raises(MailboxClosed):
                handle.send_nowait(1)
        nursery.cancel_scope.cancel()


async def test_who_dials_a_silent_host_is_told_at_once_when_its_process_is_lost_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        handle = elsewhere(spawn(nursery, two, idle))
        dialled: list[object] = []

        async def dial(coro: object) -> None:
            dialled.append(coro)
            await trio.sleep_forever()

        monkeypatch.setattr(one, "link_to", dial)
        told: list[str] = []

        async def send(deliver: Any) -> None:
            with pytest.raises(MailboxClosed):
                await deliver(1)
            told.append("closed")

        with one.entered():
            async with trio.open_nursery() as senders:
                with pytest.raises(trio.WouldBlock):
                    handle.send_nowait(1)
                senders.start_soon(send, handle.send)
                senders.start_soon(send, handle.deliver)
                await settle()
                assert len(dialled) == 3
                one.mail.process_ended(two.id)
            await settle()
            with pytest.raises(MailboxClosed):
                handle.send_nowait(1)
        assert told == ["closed"] * 2
        nursery.cancel_scope.cancel()


async def test_a_handle_never_reaches_another_process_that_uses_the_address_again() -> None:
    async with open_processes(2) as (one, two):
        with two.entered():
            async with open_coro() as receiver:
                stale = elsewhere(receiver)
                stale.home = b"\0" * 16
                with one.entered(), pytest.raises(PeerDisconnected, match="another process"):
                    await stale.send(1)
                with pytest.raises(trio.WouldBlock):
                    receiver.receive_nowait()


async def test_within_a_process_messages_go_by_reference_and_wait_for_room() -> None:
    async with open_processes(1) as (one,), trio.open_nursery() as nursery:
        gate = trio.Event()
        receiver = spawn(nursery, one, take_when, gate, 3, mailbox_size=2)
        message = trio.Event()
        with one.entered():
            await receiver.send(message)
            receiver.send_nowait(message)
            with pytest.raises(trio.WouldBlock):
                receiver.send_nowait(message)
            nursery.start_soon(receiver.deliver, message)
            await settle()
            gate.set()
        got = await result_of(one, receiver)
        assert all(item is message for item in got)
        assert len(got) == 3


async def test_only_a_coroutine_itself_uses_its_mailbox() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        handle = elsewhere(spawn(nursery, two, idle))
        with one.entered(), pytest.raises(RuntimeError, match="not the calling coroutine"):
            await handle.receive()
        nursery.cancel_scope.cancel()
