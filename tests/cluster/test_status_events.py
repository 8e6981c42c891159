"""Queues of status events: bounded, counted when they are full, each on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio import DiscoroStatus, Status, StatusLagged
from discoro_trio._cluster import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoro_trio._cluster import Event


@pytest.fixture
def backlog() -> Iterator[None]:
    before = discoro.config.status_backlog
    discoro.config.status_backlog = 3
    yield
    discoro.config.status_backlog = before


def event(number: int) -> DiscoroStatus:
    return DiscoroStatus(Status.NodeDiscovered, str(number))


def publisher() -> Publisher:
    return Publisher(lambda: "how it stands")


@pytest.mark.spec("S74")
async def test_each_subscriber_is_counted_for_itself(backlog: None) -> None:
    publishing = publisher()
    async with publishing.subscribed() as slow, publishing.subscribed() as quick:
        for number in range(10):
            publishing.put((event, number))
            assert await quick.receive() == event(number)
        assert await slow.receive() == StatusLagged(10, "how it stands")
        publishing.put((event, 10))
        assert await slow.receive() == await quick.receive() == event(10)


@pytest.mark.spec("S74")
async def test_while_all_are_too_far_behind_events_are_not_even_made(backlog: None) -> None:
    publishing = publisher()
    async with publishing.subscribed() as one, publishing.subscribed() as two:
        for number in range(4):
            publishing.put((event, number))
        before = publishing.full
        publishing.room -= 5
        assert await one.receive() == StatusLagged(9, "how it stands")
        assert (before, publishing.full) == (True, False)
        publishing.put((event, 9))
        assert await one.receive() == event(9)
        assert await two.receive() == StatusLagged(10, "how it stands")


async def test_a_channel_ends_when_all_is_taken_and_a_closed_one_says_so() -> None:
    publishing = publisher()
    async with publishing.subscribed() as channel:
        publishing.tell(Status.NodeClosed, "there")
        publishing.end()
        assert [message async for message in channel] == [DiscoroStatus(Status.NodeClosed, "there")]
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()
    assert not publishing.active


async def test_one_that_waits_is_woken_by_an_event_and_by_the_end() -> None:
    publishing = publisher()
    got: list[Event] = []

    async def read() -> None:
        got.extend([message async for message in channel])

    async with publishing.subscribed() as channel, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        publishing.tell(Status.NodeClosed, "there")
        await trio.testing.wait_all_tasks_blocked()
        publishing.end()
    assert len(got) == 1
