"""TLS between a link and the connection below it.

This module owns the passage of bytes through Python's `ssl`. Which connections go through it, and with which
certificates, is with `_tls`. `trio.SSLStream` does the same for any stream; here, where a link has one reader and one
writer of its own, the bytes go straight into the memory of frames and many records out in one call, which halves the
time of a small message and doubles the bytes a second of a large one.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, cast

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._wire import Buffer
    from .._transport import Transport

# What one read of the connection takes at most; 8 records of TLS.
_READ_SIZE = 128 * 1024

# Buffers up to this many bytes together are encrypted as one, for each record costs 22 bytes and a call.
_JOINED = 16 * 1024


class TlsTransport:
    """A connection under TLS, for one task that reads and one that writes.

    Args:
        below: The connection.
        context: How to speak TLS, and as which end.
        server_side: Whether this is the end that was connected to.
    """

    def __init__(self, below: Transport, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._below = below
        self._arriving, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arriving, self._leaving, server_side=server_side)
        self._memory = memoryview(bytearray(_READ_SIZE))
        self._unsent: list[Buffer] = []  # encrypted already, and before all that `_leaving` holds

    async def shake_hands(self) -> None:
        """Begin: agree on keys, and see the peer's certificate.

        Raises:
            ssl.SSLError: The peer speaks no TLS, or none that the context allows.
            trio.BrokenResourceError: The connection broke.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            except ssl.SSLError:
                await self._send()  # which tells the peer why
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
        """The version of TLS that both speak; None before they have agreed."""
        return self._tls.version()

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 when the peer has ended its side.

        Raises:
            trio.BrokenResourceError: The connection broke or ended before that, or somebody changed what was sent.
        """
        while True:
            count = self._read(memory)
            if count is not None:
                return count
            await self._receive()

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order.

        Raises:
            trio.BrokenResourceError: The connection broke, or somebody changed what was received.
        """
        try:
            self._encrypt(buffers)
        except ssl.SSLError as error:
            raise trio.BrokenResourceError(str(error)) from error
        await self._send()

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting; give what is left. Errors are for the next `write`."""
        try:
            self._encrypt(buffers)
        except ssl.SSLError:
            return buffers  # after a damaged record nothing more is encrypted: the next `write` meets that again
        self._unsent = self._below.write_now([*self._unsent, self._leaving.read()])
        return [b""] if self._unsent else []  # what is encrypted stays here; the next `write` goes on with it

    async def aclose(self) -> None:
        """Close at once."""
        await self._below.aclose()

    def _read(self, memory: memoryview) -> int | None:
        """Take what has been received and decrypted, a record at a time; None if that is nothing yet."""
        count = 0
        try:
            while count < len(memory):
                size = cast("int", self._tls.read(len(memory) - count, memory[count:]))
                if not size:
                    return count
                count += size
        except ssl.SSLWantReadError:
            return count or None
        except ssl.SSLError as error:
            # What came before it is whole. The error stays, and the next read meets it again.
            if not count:
                raise trio.BrokenResourceError(str(error)) from error
        return count

    def _encrypt(self, buffers: Sequence[Buffer]) -> None:
        if sum(map(len, buffers)) <= _JOINED:
            buffers = [b"".join(buffers)]
        for buffer in buffers:
            if len(buffer):
                self._tls.write(buffer)

    async def _receive(self) -> None:
        count = await self._below.receive_into(self._memory)
        if not count:
            message = "the connection ended without a goodbye"
            raise trio.BrokenResourceError(message)
        self._arriving.write(self._memory[:count])

    async def _send(self) -> None:
        if self._unsent or self._leaving.pending:
            buffers, self._unsent = [*self._unsent, self._leaving.read()], []
            await self._below.write(buffers)
