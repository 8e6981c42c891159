"""One connection to a browser, below hypercorn: with a timeout for sending, and a direct way for messages.

Fifty browsers get the same message at once. Through Quart and hypercorn, each of them would cost a task switch and as
much work as making the message; here it is one write, if the socket has room. Frames that bypass hypercorn do not
disturb it: on an open WebSocket hypercorn itself sends only whole frames, pongs and the close, and a lock keeps frames
from mixing.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.trio.tcp_server import TCPServer

PATIENCE = 30.0
"""Seconds after which a connection is broken if the peer accepts no bytes."""

# RFC 6455, 5.2: the last frame of a text message, and how long it is, in 7, 16 or 64 bits.
_TEXT = 0x81
_LONG, _LONGER = 126, 127
_SHORT_HEAD, _LONG_HEAD, _LONGER_HEAD = struct.Struct("!BB"), struct.Struct("!BBH"), struct.Struct("!BBQ")


class PatientStream(trio.abc.HalfCloseableStream):
    """A socket stream that breaks when its peer accepts nothing for `PATIENCE` seconds."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self._rest = b""
        self._sending = False

    def send_now(self, data: bytes) -> bool:
        """Send as many bytes as the socket takes at once; the next `send_all` sends the rest.

        Returns:
            False if no byte was taken: other data is queued, or the socket is full or gone.
        """
        if self._sending or self._rest or self.socket.fileno() < 0:
            return False
        try:
            sent = os.write(self.socket.fileno(), data)
        except OSError:  # `send_all` waits for room, or raises the error
            return False
        self._rest = data[sent:]
        return True

    @property
    def has_rest(self) -> bool:
        """Whether a part of the data of `send_now` is not yet sent."""
        return bool(self._rest)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all data, or break the stream."""
        self._sending = True
        try:
            with trio.move_on_after(PATIENCE):
                rest, self._rest = self._rest, b""
                await self._stream.send_all(rest + data if rest else data)
                return
        finally:
            self._sending = False
        await trio.aclose_forcefully(self._stream)
        message = f"the peer took nothing for {PATIENCE:g} s"
        raise trio.BrokenResourceError(message)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return received bytes."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Send the end of the stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


class DirectSocket:
    """Sends text messages to an open WebSocket, bypassing hypercorn.

    Args:
        patient: The connection's socket, if it is not encrypted; None otherwise.
        known: Called when a request has proved that its sender may see the tables.
    """

    def __init__(self, patient: PatientStream | None, known: Callable[[], None]) -> None:
        self.known: Callable[[], None] = known
        self._patient = patient
        self._sending = False
        self.server: TCPServer | None = None
        """The object that serves the connection; set before the WebSocket is opened."""

    def send_now(self, message: bytes) -> bool:
        """Send a message if that needs no waiting; `send` finishes one that was sent in part."""
        return self._patient is not None and not self._sending and self._patient.send_now(_framed(message))

    @property
    def has_begun(self) -> bool:
        """Whether a message was sent in part and needs a `send` to be finished."""
        return self._patient is not None and self._patient.has_rest

    async def send(self, message: bytes) -> None:
        """Finish the message that was sent in part, then send a message unless it is empty.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: The connection is gone.
        """
        server: Any = self.server
        self._sending = True  # held also while waiting: messages keep their order
        try:
            async with server.send_lock:
                await server.stream.send_all(_framed(message) if message else b"")
        finally:
            self._sending = False


def _framed(message: bytes) -> bytes:
    length = len(message)
    if length < _LONG:
        return _SHORT_HEAD.pack(_TEXT, length) + message
    if length < 1 << 16:
        return _LONG_HEAD.pack(_TEXT, _LONG, length) + message
    return _LONGER_HEAD.pack(_TEXT, _LONGER, length) + message
