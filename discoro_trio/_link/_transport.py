"""Moves bytes between a link and the stream below it: a socket, a TLS stream, a pair in memory.

This module owns partial writes and reads into given memory. `_wire` defines what the bytes mean.
"""

from __future__ import annotations

import os
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

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket
        self._empty = True  # whether the last read emptied the socket

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket below it."""
        return self._socket

    async def receive_into(self, memory: memoryview) -> int:
        """Wait for bytes and put them into `memory`; 0 at the end of the stream."""
        try:
            count = await self._read_when_ready(memory) if self._empty else await self._socket.recv_into(memory)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        self._empty = count < len(memory)
        return count

    async def _read_when_ready(self, memory: memoryview) -> int:
        # Trio's recv_into would try first. Mostly there is no data yet, so that would waste a system call.
        await trio.lowlevel.wait_readable(self._socket)
        try:
            return os.readv(self._socket.fileno(), [memory])
        except BlockingIOError:
            return await self._socket.recv_into(memory)

    async def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all the buffers, in order, with as few system calls as the kernel allows."""
        if len(buffers) == 1:
            await self._stream.send_all(buffers[0])
            return
        try:
            await self._gather(buffers)
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def _gather(self, buffers: Sequence[Buffer]) -> None:
        rest = list(buffers)
        while rest:
            rest = _unsent(rest, await self._socket.sendmsg(rest[:_MOST_BUFFERS]))

    def write_now(self, buffers: list[Buffer]) -> list[Buffer]:
        """Write what can be written without waiting. Return the rest. The next `write` raises any error."""
        try:
            sent = os.writev(self._socket.fileno(), buffers[:_MOST_BUFFERS])
        except OSError:
            return buffers
        return _unsent(buffers, sent)

    async def aclose(self) -> None:
        """Close at once."""
        await self._stream.aclose()


class StreamTransport:
    """Any Trio stream, such as TLS over a socket or a pair in memory."""

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
