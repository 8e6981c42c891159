"""A TCP proxy that simulates network faults: delay, low bandwidth, silence, loss, and damage.

It owns only the connections that go through it. Tests examine how the ends of a connection handle the faults.
"""

from __future__ import annotations

import enum
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from .._scopes import open_background
from .._values import Location

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_READ_SIZE = 16 * 1024


class Direction(enum.Enum):
    """The direction of bytes through a proxy."""

    TO_SERVER = "to server"
    """From the connecting side."""
    TO_CLIENT = "to client"
    """To the connecting side."""


class Damage(enum.Enum):
    """A fault of one byte."""

    FLIP = "flip"
    """All its bits are inverted."""
    DOUBLE = "double"
    """It arrives twice."""
    DROP = "drop"
    """It does not arrive."""
    SWAP = "swap"
    """It is swapped with the next one; in a run of equal bytes, the last one is."""


@attrs.define
class _Blow:
    """One byte to damage."""

    direction: Direction
    kind: Damage
    left: int
    """The number of bytes that still pass undamaged."""


class FaultProxy:
    """A proxy between clients and one server; its faults can be changed at any time.

    Attributes:
        location: The location to which clients connect.
        delay: The delay of every piece in each direction, in seconds.
        rate: Bytes per second in each direction; None for no limit.
    """

    def __init__(self, target: Location, location: Location) -> None:
        self.location = location
        self.delay: float = 0.0
        self.rate: float | None = None
        self._target = target
        self._flowing = trio.Event()
        self._flowing.set()
        self._refusing = False
        self._pairs: set[tuple[trio.SocketStream, trio.SocketStream]] = set()
        self._blows: list[_Blow] = []

    @property
    def connections(self) -> int:
        """The number of connections through the proxy."""
        return len(self._pairs)

    def stall(self) -> None:
        """Silently stop passing bytes, like a black-hole route; `heal` ends it."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def cut(self) -> None:
        """Reset all connections and refuse new ones; `heal` ends it."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections; new ones are accepted."""
        for pair in list(self._pairs):
            for stream in pair:
                # With a linger of 0 s, closing sends a reset instead of the end of the stream.
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()

    def heal(self) -> None:
        """Pass everything again."""
        self._refusing = False
        self._flowing.set()

    def damage(self, kind: Damage, *, after: int = 0, direction: Direction = Direction.TO_SERVER) -> None:
        """Damage one of the next bytes.

        Args:
            kind: The damage.
            after: The number of bytes that pass before it.
            direction: The direction.
        """
        self._blows.append(_Blow(direction, kind, after))

    async def serve(self, near: trio.SocketStream) -> None:
        """Carry one connection; for `open_fault_proxy`."""
        if self._refusing:
            await trio.aclose_forcefully(near)
            return
        try:
            far = await trio.open_tcp_stream(self._target.addr, self._target.port)
        except OSError:
            await trio.aclose_forcefully(near)
            return
        pair = (near, far)
        self._pairs.add(pair)
        async with near, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, Direction.TO_SERVER, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, Direction.TO_CLIENT, nursery.cancel_scope)
            self._pairs.discard(pair)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, direction: Direction, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(_READ_SIZE):
                await self._hold_back(len(data))
                await sink.send_all(self._damaged(data, direction))
            await self._flowing.wait()
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()

    async def _hold_back(self, size: int) -> None:
        await trio.sleep(self.delay + (size / self.rate if self.rate else 0.0))
        await self._flowing.wait()

    def _damaged(self, data: bytes, direction: Direction) -> bytes:
        for blow in [blow for blow in self._blows if blow.direction is direction]:
            if blow.left >= len(data):
                blow.left -= len(data)
                continue
            struck = _struck(data, blow.left, blow.kind)
            if struck == data:  # no byte here can be swapped: swap with the next piece
                blow.left = 0
                continue
            self._blows.remove(blow)
            data = struck
        return data


def _struck(data: bytes, at: int, kind: Damage) -> bytes:
    before, byte, after = data[:at], data[at : at + 1], data[at + 1 :]
    if kind is Damage.FLIP:
        return before + bytes([byte[0] ^ 0xFF]) + after
    if kind is Damage.DOUBLE:
        return before + byte + byte + after
    if kind is Damage.DROP:
        return before + after
    for place in range(at, len(data) - 1):
        if data[place] != data[place + 1]:
            return data[:place] + bytes([data[place + 1], data[place]]) + data[place + 2 :]
    return data


@asynccontextmanager
async def open_fault_proxy(target: Location) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of a server while the block lasts.

    Args:
        target: The location of the server.

    Yields:
        The proxy; clients connect to its `location`. It starts without faults.

    Leaving the block closes all connections through it.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    location = Location("127.0.0.1", listener.socket.getsockname()[1])
    async with open_background() as nursery:
        proxy = FaultProxy(target, location)
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
