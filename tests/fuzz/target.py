"""A client, a scheduler, a node and a server, and connections to them over which anything can be said."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from discoro_trio._link import Link, Trust, transport_over
from discoro_trio._link._endpoint import Endpoint, current_endpoint
from discoro_trio._wire import PeerIdentity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MIB = 1 << 20
REALM = b"r" * 16


async def double(number: int) -> int:
    """Be the job that still runs in the end."""
    return 2 * number


class Target:
    """What is attacked.

    Attributes:
        computation: One that was open before, and has the only server.
    """

    def __init__(self, endpoint: Endpoint, computation: discoro.Computation, nursery: trio.Nursery) -> None:
        self.computation = computation
        self._endpoint = endpoint
        self._nursery = nursery

    @asynccontextmanager
    async def connected(self, trust: Trust) -> AsyncIterator[tuple[trio.SocketStream, Link]]:
        """Give the far end of a connection whose peer has proved itself, and the link that listens to it."""
        near, far = trio.socket.socketpair()
        realm = REALM if trust is Trust.LEASE else b""
        peer = PeerIdentity(secrets.token_bytes(16), "stranger", discoro.Location("127.0.0.1", 9), realm)
        link = Link(transport_over(trio.SocketStream(near)), peer, self._endpoint.services, trust)
        self._endpoint._register(link)
        await self._nursery.start(link.run)
        stream = trio.SocketStream(far)
        try:
            yield stream, link
        finally:
            await trio.aclose_forcefully(stream)
            await link.ended.wait()

    async def say(self, data: bytes, trust: Trust) -> None:
        """Say something, and wait until it has been read to its end."""
        async with self.connected(trust) as (stream, _):
            try:
                await stream.send_all(data)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                return  # it hung up

    async def check(self) -> None:
        """Run a job."""
        with trio.fail_after(60):
            assert await self.computation.run_result(double, 21) == 42


@asynccontextmanager
async def open_target(folder: Path) -> AsyncIterator[Target]:
    """Open a cluster with one server, whose computation is there before the attack."""
    async with (
        discoro.open_cluster(servers=1, dest_path=folder) as _,
        discoro.Computation([double]).schedule() as computation,
        trio.open_nursery() as nursery,
    ):
        target = Target(current_endpoint(), computation, nursery)
        await target.check()
        yield target
        await target.check()
