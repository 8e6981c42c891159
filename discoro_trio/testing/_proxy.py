"""A TCP proxy that does to connections what networks do: delay, slowness, silence, loss, damage.

It owns the connections that go through it and nothing else; what their ends make of the faults is what is tested.
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
    """Which way bytes go through a proxy."""

    TO_SERVER = "to server"
    """From the one that connected."""
    TO_CLIENT = "to client"
    """To the one that connected."""


class Damage(enum.Enum):
    """What happens to one byte."""

    FLIP = "flip"
    """All its bits are turned."""
    DOUBLE = "double"
    """It comes twice."""
    DROP = "drop"
    """It does not come."""
    SWAP = "swap"
    """It changes places with the next one; of a row of equal ones, the last does."""


@attrs.define
class _Blow:
    """One byte that is to be damaged."""

    direction: Direction
    kind: Damage
    left: int
    """The bytes that still go through unharmed."""


class FaultProxy:
    """A proxy between clients and one server; its faults can be changed at any time.

    Attributes:
        location: Where clients connect to.
        delay: Seconds that every piece waits, each way.
        rate: Bytes a second and direction; None for as fast as it goes.
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
        """The connections that go through it now."""
        return len(self._pairs)

    def stall(self) -> None:
        """Let nothing through any more, silently, as behind a black-hole route; `heal` ends it."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def cut(self) -> None:
        """Reset all connections and take no new ones; `heal` ends it."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections that there are; new ones are taken."""
        for pair in list(self._pairs):
            for stream in pair:
                # With a linger of 0 s, closing sends a reset instead of the end of the stream.
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()

    def heal(self) -> None:
        """Let everything through again."""
        self._refusing = False
        self._flowing.set()

    def damage(self, kind: Damage, *, after: int = 0, direction: Direction = Direction.TO_SERVER) -> None:
        """Damage one byte of what comes.

        Args:
            kind: What happens to it.
            after: The bytes that go through before it.
            direction: Which way.
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
            if struck == data:  # nothing there could change places: with what comes next, then
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
        target: Where the server listens.

    Yields:
        The proxy; clients connect to its `location`. At first it does no harm.

    Leaving the block closes all connections that go through it.
    """
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    location = Location("127.0.0.1", listener.socket.getsockname()[1])
    async with open_background() as nursery:
        proxy = FaultProxy(target, location)
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
