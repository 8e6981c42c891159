"""Whatever a stranger sends to a port, nothing but a refusal comes of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import DiscoroError, Location
from discoro_trio._link import serve_endpoint
from discoro_trio._wire import Answerer, Binding, Found, HelloReader, Role, ServerHandshake
from tests._memory import resident_bytes
from tests.fuzz.mutator import Mutator
from tests.fuzz.samples import KEY, datagrams, hellos, identity, kept
from tests.fuzz.target import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS, DATAGRAMS, CONNECTIONS = 30_000, 20_000, 300
SEED = 1
SECONDS = float(os.environ.get("DISCORO_FUZZ_SECONDS", "0"))

pytestmark = [pytest.mark.fuzz, pytest.mark.fault("F16")]


def inputs(seeds: list[bytes], count: int) -> Iterator[bytes]:
    """Give so many inputs; with DISCORO_FUZZ_SECONDS others in each run, for so long."""
    deadline = time.monotonic() + SECONDS / 4
    seed = time.time_ns() if SECONDS else SEED
    for number, data in enumerate(Mutator(seeds, seed)):
        if number >= count and time.monotonic() > deadline:
            return
        yield data


def shake_hands(data: bytes) -> bool:
    """Let a server read this as a handshake; tell whether it accepted the peer."""
    reader = HelloReader()
    handshake = ServerHandshake(identity(2), {b"": KEY}.get, Binding())
    while not handshake.done:
        body = reader.received(0)
        while body is None:
            memory = reader.buffer()
            count = min(len(memory), len(data))
            if not count:
                return False
            memory[:count], data = data[:count], data[count:]
            body = reader.received(count)
        handshake.received(body)
    return True


def test_no_handshake_but_a_sound_one_is_accepted_and_none_raises_another_error() -> None:
    seeds = [*hellos(), *kept("before")]
    before = 0
    for number, data in enumerate(inputs(seeds, STREAMS)):
        if number == 1000:
            before = resident_bytes()
        try:
            accepted = shake_hands(data)
        except DiscoroError:
            continue
        # A recorded proof is of another challenge, so that not even what is unchanged is accepted.
        assert not accepted, data
    assert resident_bytes() - before < 10 * MIB


def test_no_datagram_but_a_sound_query_is_answered_and_no_answer_is_longer() -> None:
    sound = datagrams()
    before = 0
    for number, data in enumerate(inputs([*sound, *kept("before")], DATAGRAMS)):
        if number == 1000:
            before = resident_bytes()
        answerer = Answerer(KEY, Found(b"n" * 16, Role.NODE, "node", Location("127.0.0.1", 9)))
        sent = answerer.received_untrusted(data, ("10.0.0.1", 5), 0.0, own_machine=False)
        assert not sent or data in sound
        assert sum(len(one.body) for one in sent if one.to is not None) <= len(data)
    assert resident_bytes() - before < 10 * MIB


async def test_an_endpoint_refuses_them_all_and_still_takes_whoever_knows_the_secret() -> None:
    with trio.fail_after(60):
        async with serve_endpoint() as target, serve_endpoint() as friend:
            target.credentials[b""] = friend.credentials[b""] = KEY
            for data in inputs([*hellos(), *kept("before")], CONNECTIONS):
                stream = await trio.open_tcp_stream(target.location.addr, target.location.port)
                async with stream:
                    try:
                        await stream.send_all(data)
                        await stream.send_eof()
                        answer = await stream.receive_some()
                        # A sound greeting is answered by a challenge or by why not, and that is all.
                        assert len(answer) <= 512
                    except trio.BrokenResourceError:
                        continue
            link = await friend.link_to(target.id, target.location, b"")
            assert list(target.links) == [friend.id]
            assert not link.lost
