"""Moves bytes between a link and the stream below it: a socket, a TLS stream, a pair in memory.

This module owns partial writes and reads into given memory. `_wire` defines what the bytes mean.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._wire import Buffer

# More buffers than this in one sendmsg are refused by the kernel (IOV_MAX is 1,024 on Linux and macOS).
_MOST_BUFFERS = 512


class Transport(Protocol):
    """What a link requires of the stream below it."""

    @property
    def longest_part(self) -> int | None:
        """The most bytes of a bulk stream that a small frame should wait for; None for the usual number."""
        ...

    @property
    def socket(self) -> trio.socket.SocketType | None:
        """The socket below it, if there is one."""
        ...

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 at the end of the stream."""
        ...

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order."""
        ...

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting. Return the rest. The next `write` raises any error."""
        ...

    async def aclose(self) -> None:
        """Close at once."""
        ...


class SocketTransport:
    """A TCP or Unix socket: scatter and gather, no copies."""

    longest_part: int | None = None

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket
        self._emptied = True  # whether the last read emptied the socket

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket below it."""
        return self._socket

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 at the end of the stream."""
        try:
            while True:
                # Trio's recv_into would try first. Mostly there is no data yet, so that would waste a system call.
                if self._emptied:
                    await trio.lowlevel.wait_readable(self._socket)
                else:
                    await trio.lowlevel.checkpoint()
                try:
                    count = os.readv(self._socket.fileno(), [memory])
                except BlockingIOError:
                    self._emptied = True
                    continue
                self._emptied = count < len(memory)
                return count
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order. Mostly `write_now` has filled the socket, so this waits first."""
        rest = list(buffers)
        try:
            while rest:
                # Trio's send passes through its scheduler once more after each call; the peer may be idle meanwhile.
                await trio.lowlevel.wait_writable(self._socket)
                with suppress(BlockingIOError):
                    rest = _unsent(rest, os.writev(self._socket.fileno(), rest[:_MOST_BUFFERS]))
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting. Return the rest. The next `write` raises any error."""
        try:
            return _unsent(buffers, os.writev(self._socket.fileno(), buffers[:_MOST_BUFFERS]))
        except OSError:
            return buffers

    async def aclose(self) -> None:
        """Close at once."""
        await self._stream.aclose()


class StreamTransport:
    """Any Trio stream, such as TLS over a socket or a pair in memory."""

    longest_part: int | None = None

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    @property
    def socket(self) -> None:
        """None: a stream in general has no socket."""
        return

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 at the end of the stream."""
        data = await self._stream.receive_some(len(memory))
        memory[: len(data)] = data
        return len(data)

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order."""
        await self._stream.send_all(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write nothing: writing to a general stream may always have to wait."""
        return buffers

    async def aclose(self) -> None:
        """Close at once, without waiting for the peer."""
        await trio.aclose_forcefully(self._stream)


def _unsent(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """Return the unsent rest of buffers after `sent` bytes."""
    if len(buffers) == 1 and sent == len(buffers[0]):
        return []
    done = 0
    while done < len(buffers) and sent >= len(buffers[done]):
        sent -= len(buffers[done])
        done += 1
    rest = buffers[done:]
    if sent:
        rest[0] = memoryview(rest[0])[sent:]
    return rest


def transport_over(stream: trio.abc.Stream) -> Transport:
    """Choose the transport for a stream."""
    return SocketTransport(stream) if isinstance(stream, trio.SocketStream) else StreamTransport(stream)
