from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio
import trio.testing

from discoro_trio.process._routes import Route

if TYPE_CHECKING:
    from discoro_trio.link import Link
    from discoro_trio.process._mail import Mail

MAIL = cast("Mail", None)
LINK = cast("Link", object())


def make_route(messages: int) -> Route:
    route = Route(MAIL, "the receiver", messages)
    route.opened(LINK)
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
