"""Two processes that open connections to each other at once end up with one, and lose nothing."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from discoro_trio._link import Done, serve_endpoint
from discoro_trio._wire import Control, Credential

if TYPE_CHECKING:
    from discoro_trio._link import Endpoint, Link

KEY = Credential(b"", b"k" * 32)


class CrossedPing(Control, frozen=True):
    """Answered by `Done`."""


async def answer(_link: Link, _ping: CrossedPing) -> Done:
    return Done()


async def yields(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()


async def talk(here: Endpoint, there: Endpoint, delay: int, *, by_place: bool) -> None:
    await yields(delay)
    for _ in range(3):
        link = await (here.link_at(there.location) if by_place else here.link_to(there.id, there.location, b""))
        await link.request(CrossedPing())


async def cross(delays: tuple[int, int], by_place: tuple[bool, bool], *, lower_first: bool) -> None:
    ids = sorted(secrets.token_bytes(16) for _ in range(2))
    if not lower_first:
        ids.reverse()
    with trio.fail_after(60):
        async with (
            serve_endpoint(bind="127.0.0.1", process_id=ids[0]) as one,
            serve_endpoint(bind="127.0.0.1", process_id=ids[1]) as two,
        ):
            for endpoint in (one, two):
                endpoint.credentials[b""] = KEY
                endpoint.services.on_request(CrossedPing, answer)
            async with trio.open_nursery() as nursery:
                for (here, there), delay, place in zip(((one, two), (two, one)), delays, by_place, strict=True):
                    for more in (0, 1, 40):
                        nursery.start_soon(partial(talk, here, there, delay + more, by_place=place))
            await trio.testing.wait_all_tasks_blocked(0.001)
            assert one.links[two.id].peer.process_id == two.id
            assert two.links[one.id].peer.process_id == one.id


@given(
    delays=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    by_place=st.tuples(st.booleans(), st.booleans()),
    lower_first=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_crossed_opens_end_in_one_connection_and_lose_nothing(
    delays: tuple[int, int], by_place: tuple[bool, bool], *, lower_first: bool
) -> None:
    trio.run(partial(cross, delays, by_place, lower_first=lower_first))


async def test_all_who_want_a_peer_share_one_connection() -> None:
    async with serve_endpoint(bind="127.0.0.1") as one, serve_endpoint(bind="127.0.0.1") as two:
        for endpoint in (one, two):
            endpoint.credentials[b""] = KEY
        links: list[Link] = []

        async def want() -> None:
            links.append(await one.link_to(two.id, two.location, b""))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(want)
        assert len(set(map(id, links))) == 1


async def test_all_who_want_this_process_itself_share_one_connection() -> None:
    async with serve_endpoint(bind="127.0.0.1") as one:
        one.services.on_request(CrossedPing, answer)
        async with trio.open_nursery() as nursery:
            for _ in range(20):

                async def want() -> None:
                    await (await one.link_at(one.location)).request(CrossedPing())

                nursery.start_soon(want)


@pytest.mark.parametrize("attempt", range(3))
async def test_a_dial_that_failed_is_tried_again(attempt: int) -> None:
    async with serve_endpoint(bind="127.0.0.1") as one, serve_endpoint(bind="127.0.0.1") as two:
        for endpoint in (one, two):
            endpoint.services.on_request(CrossedPing, answer)
        for _ in range(attempt):
            with pytest.raises(Exception, match="this process has no key"):
                await one.link_to(two.id, two.location, b"")
        one.credentials[b""] = two.credentials[b""] = KEY
        link = await one.link_to(two.id, two.location, b"")
        await link.request(CrossedPing())
