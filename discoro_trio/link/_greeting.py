"""Carries the handshake over a stream, on either side, before there is a link.

What the messages say and what they prove is with `wire`; for how long a stranger may take is with the endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import DiscoroError, PeerDisconnected
from ..wire import ClientHandshake, HelloReader, ServerHandshake, encode_hello

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from ..wire import Binding, Credential, Identity, PeerIdentity

Greeted = tuple["PeerIdentity", bytes]
"""Who the peer is, and what it sent already after its last message."""


class _Hellos:
    """The messages of a handshake over one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reader = HelloReader()

    async def send(self, body: bytes | None) -> None:
        if body is not None:
            await self._stream.send_all(encode_hello(body))

    async def receive(self) -> bytes:
        body = self._reader.received(0)
        while body is None:
            memory = self._reader.buffer()
            data = await self._stream.receive_some(len(memory))
            if not data:
                message = "the peer closed the connection during the handshake"
                raise PeerDisconnected(message)
            memory[: len(data)] = data
            body = self._reader.received(len(data))
        return body

    def rest(self) -> bytes:
        return self._reader.rest()


async def greet(
    stream: trio.abc.Stream, identity: Identity, credential: Credential, expect: bytes | None, binding: Binding
) -> Greeted:
    """Be the client of a handshake. Raises as `ClientHandshake.received`."""
    hellos = _Hellos(stream)
    handshake = ClientHandshake(identity, credential, binding, expect)
    await hellos.send(handshake.start())
    while not handshake.done:
        await hellos.send(handshake.received(await hellos.receive()))
    assert handshake.peer is not None  # noqa: S101 - it is done
    return handshake.peer, hellos.rest()


async def welcome(
    stream: trio.abc.Stream,
    identity: Identity,
    credentials: Callable[[bytes], Credential | None],
    crossed: Callable[[PeerIdentity], bool],
    binding: Binding,
) -> Greeted:
    """Be the server of a handshake. Raises as `ServerHandshake.received`, after sending the refusal."""
    hellos = _Hellos(stream)
    handshake = ServerHandshake(identity, credentials, binding, crossed)
    while not handshake.done:
        try:
            answer = handshake.received(await hellos.receive())
        except DiscoroError:
            await hellos.send(handshake.refusal)
            raise
        await hellos.send(answer)
    assert handshake.peer is not None  # noqa: S101 - it is done
    return handshake.peer, hellos.rest()
