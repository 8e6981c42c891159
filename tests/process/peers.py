"""Peers of a process that have proved themselves, and say whatever a test wants them to."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio
import trio.testing

from discoro_trio import Location
from discoro_trio._link import Link, Trust, control, transport_over
from discoro_trio._link._requests import REQUEST
from discoro_trio._process.execution._runner import Attach
from discoro_trio._wire import FrameReader, Kind, PeerIdentity, encode_header

from .worlds import open_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._process import Process
    from discoro_trio._wire import Frame

LANE = 1 << 40
"""The first number of those that the first peer gives to its coroutines."""


class Peer:
    """One that has proved itself, and reads what it wants to."""

    def __init__(self, process: Process, link: Link, stream: trio.SocketStream) -> None:
        self.process = process
        self.link = link
        self._stream = stream
        self._reader = FrameReader(1 << 30)
        self.stopped = False

    @property
    def waiting(self) -> int:
        """The bytes that wait to be written to it."""
        return self.link._writer.outbox.queued_bytes

    async def send(self, data: bytes) -> None:
        """Send, until nothing moves any more: it is not read any more at some time."""
        if self.stopped:  # nobody can say how much was sent
            return
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_nothing_moves, scope)
                with suppress(trio.BrokenResourceError):
                    await self._stream.send_all(data)
                nursery.cancel_scope.cancel()
        self.stopped = scope.cancelled_caught

    async def until_answered(self, request: int) -> None:
        """Read until a request is answered, or the connection ends."""
        while data := await self._receive():
            if any(one.kind == Kind.CONTROL and one.target == request for one in self._reader.feed(data)):
                return
        await self.link.ended.wait()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some())
        except trio.BrokenResourceError:
            return b""

    async def frames(self, kind: Kind, count: int) -> list[Frame]:
        """Read until so many frames of a kind have come."""
        found: list[Frame] = []
        while len(found) < count:
            found += [one for one in self._reader.feed(await self._stream.receive_some()) if one.kind == kind]
        return found


async def _cancel_when_nothing_moves(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.3)
    scope.cancel()


@asynccontextmanager
async def open_peer(
    process: Process | None = None, *, trust: Trust = Trust.SECRET, realm: bytes = b""
) -> AsyncIterator[Peer]:
    """Give a peer that has asked to start coroutines, of a process of its own or of one that is open."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            if process is None:
                async with open_process() as opened:
                    opened.runner.open, opened.runner.nursery = True, nursery
                    async with open_peer(opened) as peer:
                        yield peer
                    nursery.cancel_scope.cancel()
                return
            near, far = trio.socket.socketpair()
            identity = PeerIdentity(secrets.token_bytes(16), "peer", Location("127.0.0.1", 9), realm)
            link = Link(transport_over(trio.SocketStream(near)), identity, process.endpoint.services, trust)
            process.endpoint._register(link)
            await nursery.start(link.run)
            async with trio.SocketStream(far) as stream:
                peer = Peer(process, link, stream)
                await peer.send(frame(Kind.CONTROL, 1, control.encode(Attach()), REQUEST))
                await peer.frames(Kind.CONTROL, 1)
                yield peer
            await link.ended.wait()


def frame(kind: Kind, target: int, body: bytes = b"", flags: int = 0, buffers: tuple[bytes, ...] = ()) -> bytes:
    lengths = tuple(map(len, buffers))
    return encode_header(kind, flags, target, len(body), lengths) + body + b"".join(buffers)
