"""Over real sockets: who does not know the secret, who knows it and breaks the protocol, and who sits in between."""

from __future__ import annotations

import logging
import secrets
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import AuthenticationError, DiscoroError, Location, config
from discoro_trio._link import Tls, serve_endpoint, transport_over
from discoro_trio._link._handshake_io import greet
from discoro_trio._link._refusal_log import MOST_LINES
from discoro_trio._process import Process
from discoro_trio._wire import (
    Binding,
    ClientHandshake,
    Credential,
    HelloReader,
    Identity,
    Kind,
    encode_header,
    encode_hello,
)
from discoro_trio.testing import Damage, Direction, open_fault_proxy
from tests._memory import resident_bytes
from tests.process.worlds import KEY, elsewhere, spawn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio import Coro
    from discoro_trio._link import Endpoint

TRIES = 10_000
OTHER_KEY = Credential(b"", b"x" * 32)
SECONDS = 240
"""Ten thousand tries take 25 s of a processor, which others may want, too."""
# Bytes of memory for each try: less than anything that could be kept of a connection, whose reader alone has 256 KiB.
# What other tests have left makes a process grow by a few hundred without any such cause.
KEPT = 1024


def identity() -> Identity:
    return Identity(secrets.token_bytes(16), sys.version_info[:2], "somebody", Location("127.0.0.1", 9))


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    with trio.fail_after(SECONDS):
        async with serve_endpoint() as here:
            here.credentials[b""] = KEY
            yield here


async def connect(here: Endpoint) -> trio.SocketStream:
    return await trio.open_tcp_stream(here.location.addr, here.location.port)


async def until_closed(stream: trio.SocketStream) -> bytes:
    """Read all that comes before the other side closes."""
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    return received


@pytest.mark.fault("F12")
@pytest.mark.parametrize("length", [4097, config.max_message_size + 1, (1 << 64) - 1])
async def test_a_stranger_who_announces_too_much_is_sent_away_and_costs_nothing(length: int) -> None:
    async with endpoint() as here:
        before = 0
        for number in range(TRIES // 3):
            if number == TRIES // 10:
                before = resident_bytes()
            async with await connect(here) as stream:
                await stream.send_all(encode_header(Kind.HELLO, 0, 0, length))
                assert await until_closed(stream) == b""
        assert resident_bytes() - before < KEPT * (TRIES // 3 - TRIES // 10)
        assert not here.links


@pytest.mark.fault("F12")
async def test_a_peer_who_announces_too_much_loses_his_connection_and_costs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    too_long = encode_header(Kind.MESSAGE, 0, 1, config.max_message_size + 1)
    peer = identity()
    async with endpoint() as here:
        before = 0
        for number in range(TRIES):
            if number == TRIES // 4:
                before = resident_bytes()
            async with await connect(here) as stream:
                await greet(transport_over(stream), peer, KEY, None, Binding())
                await stream.send_all(too_long)
                await until_closed(stream)
        assert resident_bytes() - before < KEPT * (TRIES - TRIES // 4)
        assert not here.links


@pytest.mark.fault("F12")
async def test_the_connection_ends_with_a_protocol_error() -> None:
    async with endpoint() as here, await connect(here) as stream:
        made = trio.Event()
        here.services.links_made.append(lambda _link: made.set())
        await greet(transport_over(stream), identity(), KEY, None, Binding())
        await made.wait()
        (link,) = here.links.values()
        await stream.send_all(encode_header(Kind.MESSAGE, 0, 1, config.max_message_size + 1))
        await link.ended.wait()
        assert "config.max_message_size allows" in str(link.error)
        assert type(link.error).__name__ == "ProtocolError"


# --- those who do not know the secret


async def wrong(here: Endpoint) -> None:
    """Try another secret."""
    async with await connect(here) as stream:
        with pytest.raises(AuthenticationError):
            await greet(transport_over(stream), identity(), OTHER_KEY, None, Binding())


async def empty(here: Endpoint) -> None:
    """Say nothing, or messages without content."""
    async with await connect(here) as stream:
        await stream.send_all(encode_hello(b""))
        await until_closed(stream)


async def replayed(here: Endpoint, recorded: list[bytes]) -> None:
    """Say again what somebody said who knew the secret."""
    async with await connect(here) as stream:
        for hello in recorded:
            await stream.send_all(hello)
        await until_closed(stream)


async def reflected(here: Endpoint) -> None:
    """Send back what the other side says, as if it proved something."""
    async with await connect(here) as stream:
        reader = HelloReader()
        await stream.send_all(encode_hello(ClientHandshake(identity(), KEY, Binding()).start()))
        body = None
        while body is None:
            data = await stream.receive_some()
            assert data
            reader.buffer()[: len(data)] = data
            body = reader.received(len(data))
        await stream.send_all(encode_hello(body))
        await until_closed(stream)


async def record(here: Endpoint) -> list[bytes]:
    """Give what a client that knows the secret says."""
    said: list[bytes] = []

    class Recorder:
        """Between a client and its connection."""

        def __init__(self, stream: trio.SocketStream) -> None:
            self._below = transport_over(stream)
            self.receive_into = self._below.receive_into
            self.write_now = self._below.write_now
            self.aclose = self._below.aclose
            self.socket = self._below.socket
            self.longest_part = self._below.longest_part

        async def write(self, buffers: object) -> None:
            assert isinstance(buffers, list)
            said.append(b"".join(buffers))
            await self._below.write(buffers)

    async with await connect(here) as stream:
        await greet(Recorder(stream), identity(), KEY, None, Binding())
    return said


@pytest.mark.fault("F14")
async def test_of_ten_thousand_who_do_not_know_the_secret_none_gets_in_and_the_log_stays_short(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with endpoint() as here:
        recorded = await record(here)
        assert len(recorded) == 2
        while here.links:
            await trio.testing.wait_all_tasks_blocked()
        made: list[object] = []
        here.services.links_made.append(made.append)
        for _ in range(TRIES // 4):
            await wrong(here)
            await empty(here)
            await replayed(here, recorded)
            await reflected(here)
        assert not made
        assert len(caplog.records) <= 10 * MOST_LINES


# --- those in between


@asynccontextmanager
async def tls_process() -> AsyncIterator[Process]:
    async with serve_endpoint(tls=Tls(always=True)) as here:
        here.credentials[b""] = KEY
        yield Process(here)


@pytest.mark.fault("F15")
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("kind", list(Damage))
async def test_under_tls_a_damaged_byte_ends_the_connection_and_every_value_arrives_as_it_was_sent(
    kind: Damage, direction: Direction
) -> None:
    sent = [secrets.token_bytes(3000) for _ in range(200)]
    received: list[bytes] = []
    echoed: list[bytes] = []

    async def echo(back: Coro[None]) -> None:
        # To its first error: what is said after it may go over a new connection, behind the gap that the error told of.
        with suppress(DiscoroError):
            while True:
                received.append(await target.receive())
                await back.send(received[-1])

    async def take() -> None:
        while True:
            echoed.append(await back.receive())

    with trio.fail_after(SECONDS):
        async with tls_process() as sender, tls_process() as receiver, trio.open_nursery() as nursery:
            back = spawn(nursery, sender, take)
            target = spawn(nursery, receiver, echo, elsewhere(back))
            async with open_fault_proxy(receiver.endpoint.location) as proxy:
                link = await sender.endpoint.link_to(receiver.id, proxy.location, b"")
                proxy.damage(kind, after=20_000, direction=direction)
                there = elsewhere(target)
                async with trio.open_nursery() as watching:
                    # From before the first byte on: a slow sender may still send when the link is resumed already.
                    watching.start_soon(link.until_interrupted)
                    await trio.lowlevel.checkpoint()
                    with sender.entered():
                        for message in sent:
                            await there.send(message)
                while len(echoed) < len(sent):  # noqa: ASYNC110 - over another connection, for both ends live
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert received == sent
    assert echoed == sent
