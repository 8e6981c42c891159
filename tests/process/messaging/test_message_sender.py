from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio
import trio.testing

from discoro_trio import config
from discoro_trio._process.messaging._mailbox import ASKED, CREDIT
from discoro_trio._process.messaging._message_sender import MessageSender
from discoro_trio._wire import Kind

if TYPE_CHECKING:
    from discoro_trio._link import Link
    from discoro_trio._process.messaging._mail import Mail

MAIL = cast("Mail", None)
SERIAL = 7


class FakeLink:
    """Keeps the requests for credit."""

    def __init__(self) -> None:
        self.lost = False
        self.asked: list[tuple[int, int]] = []

    def send(self, kind: int, target: int, body: bytes, flags: int, after: object = None) -> None:
        assert after, "it must not overtake the start of the coroutine"
        assert (kind, target, flags) == (Kind.CREDIT, SERIAL, ASKED)
        self.asked.append(CREDIT.unpack(body))


LINK = cast("Link", FakeLink())


def make_route(messages: int, link: Link = LINK) -> MessageSender:
    route = MessageSender(MAIL, "the receiver", SERIAL, messages)
    route.opened(link)
    return route


async def test_a_turn_that_comes_to_a_sender_just_cancelled_goes_to_the_next() -> None:
    route = make_route(1)
    assert route.take(10, 1)
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def cancelled() -> None:
            with scope:
                await route.wait(10, 2)
                order.append("cancelled")

        async def other() -> None:
            assert await route.wait(10, 3) is LINK
            order.append("other")

        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(other)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        route.give(1, 10)
    assert order == ["other"]
    route.give(1, 10)
    assert route.free == make_route(1).free


async def test_a_sender_cancelled_while_the_connection_is_lost_leaves_nothing_behind() -> None:
    route = make_route(1)
    assert route.take(10, 1)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(trio.testing.wait_all_tasks_blocked)
            scope.cancel()
            await route.wait(10, 2)
        route.lost()
        route.opened(LINK)
    assert route.free == make_route(1).free


async def test_who_waits_asks_for_what_the_first_in_turn_lacks_once_and_again_after_credit_that_is_not_enough(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link = FakeLink()
    route = make_route(2, cast("Link", link))
    assert route.take(10, 1)
    assert route.take(20, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(route.wait, config.mailbox_bytes + 1, 2)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(route.wait, 10, 3)
        await trio.testing.wait_all_tasks_blocked()
        assert link.asked == []
        await trio.sleep(1)
        assert link.asked == [(2, 30)]
        route.give(1, 10)
        assert link.asked == [(2, 30), (1, 20)]
        route.give(1, 20)
        assert link.asked == [(2, 30), (1, 20), (0, 11)]  # the first has gone, larger than the window
        route.give(1, config.mailbox_bytes + 1)
    assert len(link.asked) == 3


async def test_who_gets_credit_soon_does_not_ask_for_it(autojump_clock: trio.testing.MockClock) -> None:
    link = FakeLink()
    route = make_route(1, cast("Link", link))
    assert route.take(10, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(route.wait, 10, 2)
        await trio.testing.wait_all_tasks_blocked()
        route.give(1, 10)
    await trio.sleep(1)
    assert link.asked == []


async def test_the_credit_of_a_sender_cancelled_with_its_turn_is_free_again() -> None:
    route = make_route(2)
    assert route.take(10, 1)
    assert route.take(10, 1)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel_and_give() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                route.give(2, 20)

            nursery.start_soon(cancel_and_give)
            await route.wait(10, 2)
    assert scope.cancelled_caught
    assert route.free == make_route(2).free
