"""Carries the handshake over a connection, on either side, before there is a link.

What the messages say and what they prove is with `_wire`; for how long a stranger may take is with the endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import DiscoroError, PeerDisconnected
from .._wire import ClientHandshake, HelloReader, ServerHandshake, encode_hello

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._wire import Binding, Credential, Identity, PeerIdentity
    from ._transport import Transport

Greeted = tuple["PeerIdentity", bytes]
"""Who the peer is, and what it sent already after its last message."""


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
) -> Greeted:
    """Be the client of a handshake. Raises as `ClientHandshake.received`."""
    hellos = _Hellos(transport)
    handshake = ClientHandshake(identity, credential, binding, expect, connected=connected)
    await hellos.send(handshake.start())
    while not handshake.done:
        await hellos.send(handshake.received(await hellos.receive()))
    assert handshake.peer is not None  # noqa: S101 - it is done
    return handshake.peer, hellos.rest()


async def welcome(
    transport: Transport,
    identity: Identity,
    credentials: Callable[[bytes], Credential | None],
    crossed: Callable[[PeerIdentity], bool],
    binding: Binding,
    *,
    greeted: Callable[[], None],
) -> Greeted:
    """Be the server of a handshake; `greeted` is called once its first message is valid.

    Raises as `ServerHandshake.received`, after sending the refusal.
    """
    hellos = _Hellos(transport)
    handshake = ServerHandshake(identity, credentials, binding, crossed)
    while not handshake.done:
        try:
            answer = handshake.received(await hellos.receive())
        except DiscoroError:
            await hellos.send(handshake.refusal)
            raise
        greeted()
        await hellos.send(answer)
    assert handshake.peer is not None  # noqa: S101 - it is done
    return handshake.peer, hellos.rest()
