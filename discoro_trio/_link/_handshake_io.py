"""Sends and receives the handshake over a connection, on either side, before there is a link.

`_wire` defines the messages and what they prove; the endpoint limits the time of an unauthenticated peer.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .._errors import DiscoroError, PeerDisconnected, ProtocolError
from .._records import Record
from .._wire import ClientHandshake, HelloReader, ServerHandshake, encode_hello

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._wire import Binding, Credential, Identity, PeerIdentity
    from ._transport import Transport

_POSITION = struct.Struct("!Q")
"""On a connection that resumes a link, each end first sends how many bytes of the link it has received."""


class Greeted(Record, frozen=True, eq=False):
    """A connection whose peer has proved its identity."""

    transport: Transport
    peer: PeerIdentity
    resume: Credential
    """The key that opens further connections of the same link."""
    hellos: _Hellos

    @property
    def rest(self) -> bytes:
        """The bytes that have arrived after the peer's last handshake message."""
        return self.hellos.rest()

    async def exchange_positions(self, received: int) -> int:
        """Send the peer how many bytes of a link were received here. Return how many the peer has received.

        Raises:
            PeerDisconnected, trio.BrokenResourceError: The connection broke.
            ProtocolError: The peer sent something else.
        """
        await self.hellos.send(_POSITION.pack(received))
        body = await self.hellos.receive()
        if len(body) != _POSITION.size:
            message = "a peer that resumes a link does not report how many bytes of it have arrived"
            raise ProtocolError(message)
        position: int = _POSITION.unpack(body)[0]
        return position


class _Hellos:
    """The messages of a handshake over one connection."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = HelloReader()

    async def send(self, body: bytes | None) -> None:
        if body is not None:
            await self._transport.write([encode_hello(body)])

    async def receive(self) -> bytes:
        body = self._reader.received(0)
        while body is None:
            count = await self._transport.receive_into(self._reader.buffer())
            if not count:
                message = "the peer closed the connection during the handshake"
                raise PeerDisconnected(message)
            body = self._reader.received(count)
        return body

    def rest(self) -> bytes:
        return self._reader.rest()


async def greet(
    transport: Transport,
    identity: Identity,
    credential: Credential,
    expect: bytes | None,
    binding: Binding,
    *,
    connected: Callable[[bytes], bool] | None = None,
    works: Callable[[], None] = lambda: None,
) -> Greeted:
    """Run the client's side of a handshake; `works` is called when the peer has answered.

    Raises as `ClientHandshake.received`.
    """
    hellos = _Hellos(transport)
    handshake = ClientHandshake(identity, credential, binding, expect, connected=connected)
    await hellos.send(handshake.start())
    while not handshake.done:
        answer = handshake.received(await hellos.receive())
        works()
        await hellos.send(answer)
    assert handshake.peer is not None  # noqa: S101 - it is done
    assert handshake.resume is not None  # noqa: S101 - it is done
    return Greeted(transport, handshake.peer, handshake.resume, hellos)


async def welcome(
    transport: Transport,
    identity: Identity,
    credentials: Callable[[bytes], Credential | None],
    crossed: Callable[[PeerIdentity], Awaitable[bool]],
    binding: Binding,
    *,
    greeted: Callable[[], None] = lambda: None,
) -> Greeted:
    """Run the server's side of a handshake. Raises as `ServerHandshake.received`, after sending the refusal.

    Args:
        transport: The connection.
        identity: The identity of this process.
        credentials: Returns the key for a realm, or None if this process has none.
        crossed: Called with an authenticated peer; returns whether its connection must give way to one of this process.
        binding: The channel binding: a value of the connection that both ends see.
        greeted: Called when the first message of the peer is valid.
    """
    hellos = _Hellos(transport)
    handshake = ServerHandshake(identity, credentials, binding)
    while not handshake.done:
        try:
            answer = handshake.received(await hellos.receive())
            if handshake.peer is not None and await crossed(handshake.peer):
                raise handshake.give_way()
        except DiscoroError:
            await hellos.send(handshake.refusal)
            raise
        greeted()
        await hellos.send(answer)
    assert handshake.peer is not None  # noqa: S101 - it is done
    assert handshake.resume is not None  # noqa: S101 - it is done
    return Greeted(transport, handshake.peer, handshake.resume, hellos)
