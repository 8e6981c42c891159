from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from discoro_trio import MailboxClosed, NotPicklable, PeerDisconnected, config
from discoro_trio._errors import NameTaken
from discoro_trio._process import Channel, Coro, Process, locate_channel, open_channel, open_coro

from ..computations import open_computation
from ..worlds import cut, elsewhere, open_processes, settle, spawn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.spec("B15")


class Unopenable:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


def follow(
    nursery: trio.Nursery, process: Process, channel: Channel, got: list[Any], *, mailbox_size: int = 1024
) -> trio.CancelScope:
    """Subscribe in a process and put all that comes into a list."""
    scope = trio.CancelScope()

    async def run() -> None:
        with scope, process.entered():
            async with elsewhere(channel).subscribe(mailbox_size=mailbox_size) as messages:
                async for message in messages:
                    got.append(message)  # noqa: PERF401 - the test looks at it meanwhile

    nursery.start_soon(run)
    return scope


async def subscribe_for_ever(
    process: Process, channel: Channel, coro: Coro[Any], *, task_status: trio.TaskStatus[None]
) -> None:
    with process.entered():
        async with elsewhere(channel).subscribe_coro(coro):
            task_status.started()
            await trio.sleep_forever()


async def in_process(process: Process, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    with process.entered():
        return await function(*args)


async def test_all_subscribers_here_and_elsewhere_get_all_messages_in_order() -> None:
    got: list[list[Any]] = [[] for _ in range(6)]
    async with open_processes(3) as processes, trio.open_nursery() as nursery:
        with processes[0].entered():
            async with open_channel("news") as channel:
                for number, mine in enumerate(got):
                    follow(nursery, processes[number % 3], channel, mine)
                await settle()
                for number in range(1500):
                    await channel.send(number)
    assert got == [list(range(1500))] * 6


async def test_other_processes_publish_with_send_and_deliver() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("news") as channel:
                follow(nursery, one, channel, got)
                await settle()
                with two.entered():
                    far = elsewhere(channel)
                    await far.send("first")
                    assert await far.deliver("second") == 1
                    assert got == ["first", "second"]


async def test_a_delivery_says_how_many_have_it() -> None:
    got: list[list[Any]] = [[], [], []]
    async with open_processes(3) as processes, trio.open_nursery() as nursery:
        with processes[0].entered():
            async with open_channel("news") as channel:
                assert await channel.deliver("to nobody") == 0
                scopes = [follow(nursery, process, channel, mine) for process, mine in zip(processes, got, strict=True)]
                assert await channel.deliver("to all", n=3) == 3
                scopes[2].cancel()
                await settle()
                assert await channel.deliver("to two") == 2
    assert got == [["to all", "to two"], ["to all", "to two"], ["to all"]]


async def test_a_delivery_waits_for_so_many_subscribers() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("news") as channel:
                counts: list[int] = []

                async def deliver() -> None:
                    with two.entered():
                        counts.append(await elsewhere(channel).deliver("message", n=2))

                async with trio.open_nursery() as delivering:
                    delivering.start_soon(deliver)
                    follow(nursery, two, channel, got)
                    await settle()
                    assert not counts
                    follow(nursery, one, channel, got)
                assert counts == [2]
    assert got == ["message"] * 2


async def test_a_delivery_waits_for_so_many_subscribers_longer_than_a_reply_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(config, "MsgTimeout", 0.2)
    counts: list[int] = []
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_channel("news") as channel, trio.open_nursery() as nursery:

                async def deliver(n: int) -> None:
                    with two.entered():
                        counts.append(await elsewhere(channel).deliver("message", n=n))

                nursery.start_soon(deliver, 1)
                await trio.sleep(3 * config.MsgTimeout)  # for as long no subscriber comes
                async with channel.subscribe(mailbox_size=1) as messages:
                    assert await messages.receive() == "message"
                    await channel.send("fills the mailbox")
                    nursery.start_soon(deliver, 0)
                    await trio.sleep(3 * config.MsgTimeout)  # for as long the subscriber does not read
                    assert counts == [1]
                    assert [await messages.receive() for _ in range(2)] == ["fills the mailbox", "message"]
                    while len(counts) < 2:  # noqa: ASYNC110 - the other task sets no event
                        await trio.sleep(0.001)
    assert counts == [1, 1]


async def test_a_transform_is_applied_once_and_drops_what_it_returns_none_for() -> None:
    calls: list[int] = []

    def even_ones_halved(number: int) -> int | None:
        calls.append(number)
        return number // 2 if number % 2 == 0 else None

    got: list[list[Any]] = [[], []]
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("halves", transform=even_ones_halved) as channel:
                follow(nursery, one, channel, got[0])
                follow(nursery, two, channel, got[1])
                await settle()
                for number in range(5):
                    await channel.send(number)
                with two.entered():
                    await elsewhere(channel).send(6)
                    assert await elsewhere(channel).deliver(7) == 0
                    assert await elsewhere(channel).deliver(8) == 2
    assert got == [[0, 1, 2, 3, 4]] * 2
    assert calls == [0, 1, 2, 3, 4, 6, 7, 8]


async def test_what_the_transform_raises_is_raised_by_the_block() -> None:
    def broken(_message: object) -> None:
        message = "a bug in the transform"
        raise ZeroDivisionError(message)

    async with open_processes(1) as (one,):
        with one.entered(), pytest.raises(ZeroDivisionError, match="a bug"):
            async with open_channel("news", transform=broken) as channel:
                await channel.send(1)
                await trio.sleep_forever()


@pytest.mark.spec("B06")
async def test_a_slow_subscriber_makes_its_publishers_wait_and_loses_nothing() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_channel("news") as channel:
                with two.entered():
                    async with elsewhere(channel).subscribe(mailbox_size=3) as slow:
                        with one.entered():
                            sent = 0
                            async with trio.open_nursery() as nursery:

                                async def publish() -> None:
                                    nonlocal sent
                                    for number in range(1100):
                                        await channel.send(number)
                                        sent += 1

                                nursery.start_soon(publish)
                                await settle()
                                assert sent < 1100, "the mailbox of the channel and the window of the subscriber"
                                got = [await slow.receive() for _ in range(1100)]
                        assert got == list(range(1100))


async def test_a_subscriber_that_goes_away_while_its_window_is_full_holds_nobody_up() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("news") as channel:
                follow(nursery, one, channel, got)
                with two.entered():
                    async with (
                        elsewhere(channel).subscribe(mailbox_size=1),
                        open_coro(mailbox_size=1) as deaf,
                        elsewhere(channel).subscribe_coro(deaf),
                    ):
                        with one.entered():
                            for number in range(10):
                                await channel.send(number)
                        await settle()
                await channel.deliver("last")
    assert got == [*range(10), "last"]


async def test_a_coroutine_gets_messages_in_its_own_mailbox_while_it_is_subscribed() -> None:
    async def take_two(*, coro: Coro[Any]) -> list[Any]:
        return [await coro.receive() for _ in range(2)]

    async with open_processes(3) as (one, two, three), trio.open_nursery() as nursery:
        taker = spawn(nursery, three, take_two)
        with one.entered():
            async with open_channel("news") as channel:
                with two.entered():
                    async with elsewhere(channel).subscribe_coro(elsewhere(taker)):
                        assert await elsewhere(channel).deliver("one") == 1
                    assert await elsewhere(channel).deliver("nobody") == 0
                    async with elsewhere(channel).subscribe_coro(elsewhere(taker)):
                        assert await elsewhere(channel).deliver("two") == 1
        with three.entered():
            assert await taker.result() == ["one", "two"]


async def test_a_coroutine_that_ends_is_removed() -> None:
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        end = trio.Event()

        async def wait_for_the_end(*, coro: Coro[Any]) -> None:
            await end.wait()

        with one.entered():
            async with open_channel("news") as channel:
                for process in (one, two):
                    coro = elsewhere(spawn(nursery, process, wait_for_the_end))
                    await nursery.start(subscribe_for_ever, two, channel, coro)
                assert await channel.deliver("to both") == 2
                end.set()
                await settle()
                assert await channel.deliver("to nobody") == 0
        nursery.cancel_scope.cancel()


async def test_subscriptions_end_with_their_channel_after_the_last_message() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("news") as channel:
                follow(nursery, two, channel, got)
                await settle()
                await channel.send(b"x" * 1_000_000)
                await channel.send("last")
        await settle()
        assert [len(message) for message in got] == [1_000_000, 4]
        with two.entered():
            with pytest.raises(MailboxClosed):
                await elsewhere(channel).deliver("too late")
            with pytest.raises(MailboxClosed, match="has ended"):
                async with elsewhere(channel).subscribe():
                    pytest.fail("there is nothing to subscribe to")


async def test_a_subscription_whose_link_is_lost_says_so_after_what_has_arrived() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with open_channel("news") as channel:
                with two.entered():
                    async with elsewhere(channel).subscribe() as messages:
                        with one.entered():
                            assert await channel.deliver("arrived") == 1
                            cut(one, two)
                            await settle()
                            assert await channel.deliver("lost") == 0
                        assert await messages.receive() == "arrived"
                        for _ in range(2):
                            with pytest.raises(PeerDisconnected, match="subscribe again"):
                                await messages.receive()
                    async with elsewhere(channel).subscribe() as messages:
                        with one.entered():
                            assert await channel.deliver("again") == 1
                        assert await messages.receive() == "again"


async def test_a_closed_subscription_receives_no_more() -> None:
    async with open_processes(1) as (one,):
        with one.entered():
            async with open_channel("news") as channel, channel.subscribe() as messages:
                async with trio.open_nursery() as nursery:

                    async def receive() -> None:
                        with pytest.raises(trio.ClosedResourceError):
                            await messages.receive()

                    nursery.start_soon(receive)
                    await settle()
                    await messages.aclose()
                assert await channel.deliver("to nobody") == 0


async def test_what_cannot_be_pickled_is_refused_at_the_call() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        with one.entered():
            async with open_channel("news") as channel:
                follow(nursery, two, channel, got)
                await settle()
                with pytest.raises(NotPicklable):
                    await channel.send(threading.Lock())
                await channel.send("fine")
    assert got == ["fine"]


@pytest.mark.fault("F18")
async def test_a_message_that_cannot_be_opened_is_the_matter_of_each_subscriber() -> None:
    async with open_processes(2) as (one, two):
        with one.entered():
            async with (
                open_channel("plain") as plain,
                open_channel("made", transform=lambda item: item) as made,
                plain.subscribe() as messages,
                made.subscribe() as others,
            ):
                with two.entered():
                    for channel in (plain, made):
                        await elsewhere(channel).send(Unopenable())
                        await elsewhere(channel).deliver("next")
                with pytest.raises(ValueError, match="invalid literal"):
                    await messages.receive()
                assert await messages.receive() == "next"
                assert await others.receive() == "next"


@pytest.mark.spec("B16")
async def test_channels_are_found_by_name_across_the_computation() -> None:
    async with open_computation(2) as (client, servers):
        with servers[0].entered():
            async with open_channel("progress") as channel:
                for process in (client, *servers):
                    assert await in_process(process, locate_channel, "progress") == channel
                with servers[1].entered(), pytest.raises(NameTaken, match="the channel 'progress'"):
                    async with open_channel("progress"):
                        pytest.fail("there are two")
        with servers[1].entered():
            async with open_channel("progress") as channel:
                assert await in_process(client, locate_channel, "progress") == channel


async def test_an_error_of_the_body_passes_unchanged_and_ends_the_channel() -> None:
    got: list[Any] = []
    async with open_processes(2) as (one, two), trio.open_nursery() as nursery:
        error = KeyError("mine")
        with one.entered():
            with pytest.raises(KeyError) as caught:
                async with open_channel("news") as channel:
                    scope = follow(nursery, two, channel, got)
                    await settle()
                    raise error
            assert caught.value is error
        scope.cancel()


async def test_only_calls_that_are_no_blocks_need_an_endpoint() -> None:
    with pytest.raises(RuntimeError, match="open_endpoint"):
        await locate_channel("news")
    async with open_channel("news") as channel:
        assert await locate_channel("news") == channel
