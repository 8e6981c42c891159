"""A link outlives its connections: what breaks them loses nothing, and only the end of a process ends it."""

from __future__ import annotations

import random
import secrets
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.lowlevel
import trio.testing

from discoro_trio._config import KIB, config
from discoro_trio._errors import PeerDisconnected, ProtocolError
from discoro_trio._link import Done, serve_endpoint, transport_over
from discoro_trio._link import _reconnecting as reconnecting
from discoro_trio._link import _resumable as resumable
from discoro_trio._link._resumable import ResumableTransport
from discoro_trio._link.tls._tls import Tls
from discoro_trio._values import Location
from discoro_trio._wire import Control, Credential, Kind
from tests._deadlines import Stopwatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from discoro_trio._link import Endpoint, Link
    from discoro_trio._wire import Frame

KEY = Credential(b"", b"k" * 32)


class ResumingAsk(Control, frozen=True):
    """Answered by `Done` when the test says so."""


@pytest.fixture(autouse=True)
def short_pulses() -> Iterator[None]:
    before = config.MinPulseInterval, config.MsgTimeout
    config.MinPulseInterval, config.MsgTimeout = 1.0, 5.0
    yield
    config.MinPulseInterval, config.MsgTimeout = before


@asynccontextmanager
async def open_pair(*, lower_opens: bool = True, tls: bool = False) -> AsyncIterator[tuple[Endpoint, Endpoint, Link]]:
    """Give two endpoints and the link of the first one to the second."""
    ids = sorted((secrets.token_bytes(16) for _ in range(2)), reverse=not lower_opens)
    with trio.fail_after(40):
        async with (
            serve_endpoint(bind="127.0.0.1", process_id=ids[0], tls=Tls(always=tls)) as one,
            serve_endpoint(bind="127.0.0.1", process_id=ids[1], tls=Tls(always=tls)) as two,
        ):
            one.credentials[b""] = two.credentials[b""] = KEY
            yield one, two, await one.link_to(two.id, two.location, b"")


def reset(endpoint: Endpoint, peer: Endpoint) -> None:
    """Break the connection of a link."""
    sock = endpoint.links[peer.id]._transport.socket
    if sock is not None and sock.fileno() >= 0:
        sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("seed", range(6))
async def test_what_is_sent_arrives_once_and_in_order_over_connections_that_break(seed: int, tls: bool) -> None:  # noqa: FBT001
    rng = random.Random(seed)
    async with open_pair(lower_opens=bool(seed % 2), tls=tls) as (one, two, link):
        arrived: dict[bytes, list[int]] = {one.id: [], two.id: []}

        def take(at: Link, frame: Frame) -> None:
            assert bytes(frame.body) == frame.target.to_bytes(4, "big") * (len(frame.body) // 4)
            arrived[one.id if at is link else two.id].append(frame.target)

        one.services.on_frame(Kind.MESSAGE, take)
        two.services.on_frame(Kind.MESSAGE, take)
        back = two.links[one.id]
        count = 300

        async def send(over: Link) -> None:
            for number in range(count):
                size = rng.choice([1, 100, 20 * KIB, 400 * KIB])
                over.send(Kind.MESSAGE, number, number.to_bytes(4, "big") * (size // 4), keys=("order",))
                await over.room()
                await trio.lowlevel.checkpoint()

        async def damage() -> None:
            while True:
                await trio.sleep(rng.uniform(0.01, 0.1))
                with suppress(OSError):  # it is broken already
                    reset(*rng.choice([(one, two), (two, one)]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(damage)
            async with trio.open_nursery() as senders:
                senders.start_soon(send, link)
                senders.start_soon(send, back)
            nursery.cancel_scope.cancel()
        while min(map(len, arrived.values())) < count:  # noqa: ASYNC110 - no event
            await trio.sleep(0.01)
        assert list(arrived.values()) == [list(range(count))] * 2
        assert one.links[two.id] is link
        assert two.links[one.id] is back


async def test_connections_that_break_leave_no_descriptors() -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with open_pair() as (one, two, link):
        transport = link._resumable
        assert transport is not None
        before = open_descriptors()
        for _ in range(20):
            reset(one, two)
            await transport.until(broken=True)
            await transport.until(broken=False)
        while open_descriptors() > before:  # noqa: ASYNC110 - the other end may still be closing its last one
            await trio.sleep(0.01)


async def test_a_request_that_waits_is_answered_over_the_next_connection() -> None:
    async with open_pair() as (one, two, link):
        go = trio.Event()

        async def answer(_link: Link, _ask: ResumingAsk) -> Done:
            await go.wait()
            return Done()

        two.services.on_request(ResumingAsk, answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.request, ResumingAsk())
            await trio.testing.wait_all_tasks_blocked(0.01)
            reset(two, one)
            await trio.testing.wait_all_tasks_blocked(0.01)
            go.set()
        assert not link.lost


async def test_a_peer_that_has_ended_without_a_goodbye_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_pair() as (one, two, link):
        monkeypatch.setattr(two, "close", nothing)  # as if it had been killed
        two.nursery.cancel_scope.cancel()
        watch = Stopwatch()
        await link.ended.wait()
        assert watch.undisturbed < 1
        assert not link.orderly
        with pytest.raises(PeerDisconnected, match="the process has ended"):
            await link.request(ResumingAsk())
        assert two.id not in one.links


async def nothing(_reason: str) -> None:
    return


async def test_a_peer_is_dialled_again_where_it_was_dialled_and_not_where_it_says_it_is() -> None:
    with trio.fail_after(40):
        async with (
            serve_endpoint(bind="127.0.0.1") as one,
            serve_endpoint(bind="127.0.0.1", ext_addr="127.0.0.2") as two,  # there it refuses connections
        ):
            one.credentials[b""] = two.credentials[b""] = KEY
            link = await one.link_at(Location("127.0.0.1", two.location.port))
            transport = link._resumable
            assert transport is not None
            assert link.peer.location.addr == "127.0.0.2"
            for _ in range(3):
                reset(one, two)
                await transport.until(broken=True)
                await transport.until(broken=False)
            assert not link.lost


async def test_a_link_that_the_peer_has_given_up_ends_at_the_next_connection() -> None:
    async with open_pair() as (one, two, link):
        two.links[one.id].fail(PeerDisconnected("it was silent"))
        watch = Stopwatch()
        await link.ended.wait()
        assert watch.undisturbed < 1
        assert (await one.link_to(two.id, two.location, b"")) is not link


async def test_a_link_that_has_ended_takes_no_further_connection() -> None:
    async with open_pair() as (one, two, link):
        transport = link._resumable
        assert transport is not None
        link.fail(PeerDisconnected("it was silent"))
        await link.ended.wait()
        await transport.detach()
        near, _far = trio.testing.memory_stream_pair()
        with pytest.raises(trio.ClosedResourceError):
            transport.attach(transport_over(near), b"", 0)
        assert two.id not in one.links


async def test_a_peer_that_cannot_be_reached_is_given_up_after_five_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_pair() as (one, two, link):

        async def fails(*_arguments: object) -> None:
            raise OSError(113, "No route to host")

        monkeypatch.setattr(one, "open_connection", fails)
        monkeypatch.setattr(two, "open_connection", fails)
        watch = Stopwatch()
        reset(one, two)
        await link.ended.wait()
        assert watch.seconds > 4.9
        assert watch.undisturbed < 7
        assert "5 s" in str(link.error)


async def test_what_a_peer_has_received_is_not_kept() -> None:
    async with open_pair() as (_one, two, link):
        two.services.on_frame(Kind.MESSAGE, lambda _link, _frame: None)
        for number in range(20):
            link.send(Kind.MESSAGE, number, bytes(1000 * KIB))
            await link.room()
        transport = link._resumable
        assert transport is not None
        with trio.fail_after(60):
            while transport.kept > 64 * KIB:  # noqa: ASYNC110 - no event
                await trio.sleep(0.05)


class Sink:
    """A connection that takes everything at once."""

    socket = None
    longest_part = None

    async def write(self, _buffers: list[bytes]) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("received", [0, 1], ids=["not all received", "all received"])
async def test_a_peer_that_never_confirms_costs_limited_memory(received: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "_MOST_KEPT", 1000)
    transport = ResumableTransport(cast("Any", Sink()))
    for _ in range(100):
        await transport.write([bytes(60)])
        assert transport.kept <= 1000
    await transport.detach()
    if received:
        transport.attach(cast("Any", Sink()), b"", 6000)
        assert transport.kept == 0
    else:
        with pytest.raises(ProtocolError, match="left more than 1000 bytes unconfirmed"):
            transport.attach(cast("Any", Sink()), b"", 100)


async def test_a_crossing_waits_for_our_own_connection_no_longer_than_a_moment() -> None:
    attempt = reconnecting.Attempt()
    watch = Stopwatch()
    assert not await attempt.wins()  # nothing arrives on it: a firewall may drop it
    assert watch.undisturbed < reconnecting.CROSSING_SECONDS + 1
    assert attempt.scope.cancel_called
    attempt = reconnecting.Attempt()
    attempt.answered()
    assert await attempt.wins()
