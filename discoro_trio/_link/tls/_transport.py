"""TLS between a link and the connection below it.

This module passes bytes through Python's `ssl`. `_tls` decides which connections use it, and with which certificates.
`trio.SSLStream` does the same for any stream. Here a link has one reader and one writer, so the bytes go directly into
the memory of frames, and many records are sent in one call. This halves the time of a small message and doubles the
throughput of a large one.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._wire import Buffer
    from .._transport import Transport

# The most bytes of one read from the connection; 16 TLS records.
_READ_SIZE = 256 * 1024

# The most bytes that are encrypted before they are written; 16 TLS records. While this end encrypts the next ones, the
# peer decrypts these.
_WRITE_SIZE = 256 * 1024

# The parts of bulk data. A small frame waits for the encryption of one, which takes as long as that of many small
# frames. Under TLS, longer parts save nothing.
_LONGEST_PART = 128 * 1024

# Buffers of up to this many bytes together are encrypted as one, because each record costs 22 bytes and a call.
_JOINED = 16 * 1024


class TlsTransport:
    """A connection under TLS, for one task that reads and one that writes.

    Args:
        below: The connection.
        context: The TLS context.
        server_side: Whether this end accepted the connection.
    """

    longest_part: int | None = _LONGEST_PART

    def __init__(self, below: Transport, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._below = below
        self._arriving, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arriving, self._leaving, server_side=server_side)
        self._memory = memoryview(bytearray(_READ_SIZE))
        self._over = False  # whether the peer has ended its side, or its data was changed on its way
        self._unsent: list[Buffer] = []  # already encrypted, and before everything in `_leaving`

    async def shake_hands(self) -> None:
        """Run the TLS handshake: agree on keys, and receive the peer's certificate.

        Raises:
            ssl.SSLError: The peer does not use TLS, or not a version that the context allows.
            trio.BrokenResourceError: The connection broke.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except ssl.SSLError:
                await self._send()  # sends the peer the reason
                raise
            else:
                await self._send()
                return

    @property
    def socket(self) -> trio.socket.SocketType | None:
        """The socket below it, if there is one."""
        return self._below.socket

    @property
    def certificate(self) -> bytes:
        """The peer's certificate, as DER; b"" if it has none."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def version(self) -> str | None:
        """The TLS version that both ends use; None before the handshake."""
        return self._tls.version()

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 when the peer has ended its side.

        Raises:
            trio.BrokenResourceError: The connection broke or ended before that, or the data was changed on its way.
        """
        while True:
            count = self._read(memory)
            if count is not None:
                return count
            await self._receive()

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order.

        Raises:
            trio.BrokenResourceError: The connection broke, or received data was changed on its way.
        """
        rest = list(buffers)
        while True:
            await self._send()
            if not rest:
                return
            try:
                rest = self._encrypt(rest)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            self._send_now()

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting. Return the rest. The next `write` raises any error."""
        rest = buffers
        while rest and not self._unsent:
            try:
                rest = self._encrypt(rest)
            except ssl.SSLError:
                return rest  # after a damaged record nothing more is encrypted: the next `write` raises the error
            self._send_now()
        # Encrypted bytes stay here; the next `write` continues with them.
        return rest or ([b""] if self._unsent else [])

    async def aclose(self) -> None:
        """Close at once."""
        await self._below.aclose()

    def _read(self, memory: memoryview) -> int | None:
        """Return the number of decrypted bytes put into `memory`, a record at a time; None if there are none yet."""
        count = 0
        tls, arriving = self._tls, self._arriving
        try:
            # Without the check for bytes, each read would end with an exception.
            while count < len(memory) and (arriving.pending or tls.pending() or self._over):
                size = cast("int", tls.read(len(memory) - count, memory[count:]))
                if not size:
                    self._over = True
                    return count
                count += size
        except ssl.SSLWantReadError:
            return count or None
        except ssl.SSLError as error:
            # The bytes before it are complete. The error stays, and the next read raises it.
            self._over = True
            if not count:
                raise trio.BrokenResourceError(str(error)) from error
        return count or None

    def _encrypt(self, buffers: list[Buffer]) -> list[Buffer]:
        """Encrypt the first `_WRITE_SIZE` bytes of the buffers. Return the rest."""
        if sum(map(len, buffers)) <= _JOINED:
            whole = buffers[0] if len(buffers) == 1 else b"".join(buffers)
            if len(whole):
                self._tls.write(whole)
            return []
        room = _WRITE_SIZE
        for index, buffer in enumerate(buffers):
            if not room:
                return buffers[index:]
            if len(buffer) > room:
                view = memoryview(buffer)
                self._tls.write(view[:room])
                return [view[room:], *buffers[index + 1 :]]
            if len(buffer):
                self._tls.write(buffer)
                room -= len(buffer)
        return []

    async def _receive(self) -> None:
        count = await self._below.receive_into(self._memory)
        if not count:
            message = "the connection ended without a goodbye"
            raise trio.BrokenResourceError(message)
        self._arriving.write(self._memory[:count])

    def _send_now(self) -> None:
        """Write the encrypted bytes that the connection takes without waiting."""
        self._unsent = self._below.write_now([*self._unsent, self._leaving.read()])

    async def _send(self) -> None:
        if self._unsent or self._leaving.pending:
            buffers, self._unsent = [*self._unsent, self._leaving.read()], []
            await self._below.write(buffers)
