"""The node: the authority for the servers of one machine.

A node owns its template, its seats and its leases: which computation has its servers, since when, and with which key.
What a computation ships it keeps, unopened, and hands to each server, so that a replacement is set up like the first.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from .._errors import DiscoroError, FileTransferError, PeerDisconnected, UnknownLocation
from .._scopes import open_background
from .._values import Location
from ..link import Done, Trust
from ..process import write_tree
from ..wire import decode_package_untrusted, encode_package, without_files
from . import _messages as messages
from ._forks import open_template
from ._seat import Seat, SeatEvents
from ._set_up import COMPONENTS, NodeSetUp, failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..link import Endpoint, Link
    from ..wire import Control
    from ._forks import Exit, Template
    from ._seat import Server

logger = logging.getLogger(__name__)


class Lease:
    """The servers of a node, given to one computation."""

    def __init__(self, grant: messages.Grant, scheduler_id: bytes) -> None:
        self.grant = grant
        self.scheduler_id = scheduler_id
        self.prepared: messages.Prepare | None = None
        self.folder: Path | None = None
        self.package = b""
        self.client: Link | None = None
        self.ending: trio.Event | None = None
        self.node_set_up = NodeSetUp(wanted=False)

    @property
    def computation(self) -> bytes:
        """Whose it is."""
        return self.grant.computation

    async def install(self, prepare: messages.Prepare, parent: Path) -> None:
        """Write the files of the components, once for all servers of the node."""
        package = decode_package_untrusted(prepare.package)
        self.folder = Path(tempfile.mkdtemp(prefix="computation-", dir=parent))
        try:
            await trio.to_thread.run_sync(write_tree, package, self.folder)
        except OSError as error:
            message = f"the files of the computation could not be written: {error}"
            raise FileTransferError(message) from error
        self.package = encode_package(without_files(package))
        self.node_set_up = NodeSetUp(wanted=bool(prepare.node_setup))
        self.prepared = prepare

    def remove(self) -> None:
        """Remove the files again."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Node:
    """The servers of this machine.

    Attributes:
        location: Where the node listens.
    """

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery, servers: int, folder: Path) -> None:
        self.location = endpoint.location
        self.name = endpoint.identity.name
        self._endpoint = endpoint
        self._nursery = nursery
        self._folder = folder
        self._lease: Lease | None = None
        self._schedulers: list[Link] = []
        events = SeatEvents(up=self._server_up, gone=self._server_gone)
        self._seats = [Seat(number, endpoint, folder, events) for number in range(1, servers + 1)]
        services = endpoint.services
        services.on_notice(messages.ServerUp, self._listens, trust=Trust.KIN)
        services.on_request(messages.Grant, self._grant)
        services.on_notice(messages.Revoke, self._revoke)
        services.on_request(messages.Prepare, self._prepare)
        services.on_request(messages.Release, self._release)
        services.on_request(messages.Replace, self._replace)
        services.links_lost.append(self._lost)

    @property
    def servers(self) -> list[Location]:
        """Where its servers listen."""
        return [seat.server.location for seat in self._seats if seat.server is not None and seat.server.up.is_set()]

    async def keep_servers(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all seats taken until cancelled; a template that ends is started again."""
        while True:
            async with open_template() as template, trio.open_nursery() as nursery:
                for seat in self._seats:
                    nursery.start_soon(self._keep_seat, seat, template, name=f"server {seat.number}")
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await template.wait_ended()
                logger.warning("the template process of the servers ended; another one is started")

    async def _keep_seat(self, seat: Seat, template: Template) -> None:
        try:
            await seat.keep(template)
        except trio.BrokenResourceError:
            await template.wait_ended()

    async def join(self, scheduler: Link) -> None:
        """Offer the servers to a scheduler."""
        self._schedulers.append(scheduler)
        here = messages.NodeIs(
            self.name, self.location.addr, self.location.port, len(self._seats), platform.platform(terse=True)
        )
        await scheduler.request(here)

    # --- leases

    async def _grant(self, link: Link, grant: messages.Grant) -> messages.Granted:
        if self._lease is not None:
            message = f"the servers of {self.name} are held by another computation"
            raise UnknownLocation(message)
        self._lease = Lease(grant, link.peer.process_id)
        return messages.Granted(len(self._seats))

    def _held(self, computation: bytes) -> Lease:
        if self._lease is None or self._lease.computation != computation:
            message = f"the computation holds no servers of {self.name}"
            raise UnknownLocation(message)
        return self._lease

    async def _prepare(self, link: Link, prepare: messages.Prepare) -> messages.Prepared:
        lease = self._held(prepare.computation)
        if link.peer.process_id != lease.grant.client_id:
            message = f"the servers of {self.name} are held for another client"
            raise UnknownLocation(message)
        lease.client = link
        await lease.install(prepare, self._folder)
        for seat in self._seats:
            if seat.server is not None and seat.server.up.is_set():
                self._nursery.start_soon(self._begin, lease, seat, seat.server, name="set up a server")
        return messages.Prepared(len(self._seats))

    async def _release(self, _link: Link, release: messages.Release) -> Done:
        await self._end_lease(self._held(release.computation), "the computation is closed")
        return Done()

    def _revoke(self, _link: Link, revoke: messages.Revoke) -> None:
        if self._lease is not None and self._lease.computation == revoke.computation:
            self._nursery.start_soon(self._end_lease, self._lease, "the scheduler took the servers back")

    async def _end_lease(self, lease: Lease, reason: str) -> None:
        """End the servers of a lease, in order; when this returns, fresh ones are on the way."""
        if lease.ending is not None:
            await lease.ending.wait()
            return
        lease.ending = trio.Event()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for seat in self._seats:
                    if seat.server is not None:
                        nursery.start_soon(self._end_server, lease, seat.server, reason)
        lease.remove()
        self._lease = None
        lease.ending.set()
        self._tell_schedulers(messages.Freed(lease.computation))

    async def _end_server(self, lease: Lease, server: Server, reason: str) -> None:
        if lease.prepared is not None:
            with trio.move_on_after(lease.prepared.grace_period):
                try:
                    await server.request(messages.Finish(reason))
                except DiscoroError:
                    logger.debug("a server ended before it was asked to")
        server.kill(reason)
        await server.process.wait()

    async def _replace(self, _link: Link, replace: messages.Replace) -> Done:
        self._held(replace.computation)
        for seat in self._seats:
            server = seat.server
            if server is not None and server.process_id == replace.server_id:
                server.kill(replace.reason)
                await server.process.wait()
        return Done()

    def _tell_schedulers(self, message: Control) -> None:
        for link in self._schedulers:
            link.notify(message)

    def _lost(self, link: Link) -> None:
        if link in self._schedulers:
            self._schedulers.remove(link)
        lease = self._lease
        if lease is not None and lease.client is link:
            self._nursery.start_soon(self._end_lease, lease, "the client is gone")

    # --- servers

    def _listens(self, link: Link, message: messages.ServerUp) -> None:
        for seat in self._seats:
            if seat.server is not None and seat.server.link is link:
                seat.listens(Location(message.addr, message.port))

    def _server_up(self, seat: Seat) -> None:
        lease = self._lease
        if lease is not None and lease.prepared is not None and lease.ending is None and seat.server is not None:
            self._nursery.start_soon(self._begin, lease, seat, seat.server, name="set up a server")

    async def _begin(self, lease: Lease, seat: Seat, server: Server) -> None:
        prepared, grant, client = lease.prepared, lease.grant, lease.client
        if prepared is None or client is None:
            return

        async def begin(with_node: bool) -> Control:  # noqa: FBT001 - a callback's only argument
            begin = messages.Begin(
                grant.computation,
                grant.client_id,
                grant.key,
                lease.package,
                str(lease.folder),
                prepared.node_setup if with_node else [],
                prepared.server_setup,
                prepared.threads,
                prepared.forward_output,
            )
            return await server.request(begin)

        try:
            reply = await lease.node_set_up.begin_at(begin)
        except PeerDisconnected:
            return  # it has ended, and the seat says so
        except DiscoroError as error:
            reply = failed(COMPONENTS, error, where=server.link.peer.name)
        if reply is not None and lease.ending is None:
            client.notify(self._begun(lease, seat, server, reply))

    def _begun(self, lease: Lease, seat: Seat, server: Server, reply: Control) -> Control:
        """Say to the client how the set-up of a server went."""
        computation, addr, port = lease.computation, server.location.addr, server.location.port
        if isinstance(reply, messages.SetUpFailed):
            name, stage, error = server.link.peer.name, reply.stage, reply.error
            return messages.ServerFailed(
                computation, server.process_id, self._endpoint.id, seat.number, name, addr, port, stage, error
            )
        return messages.ServerReady(computation, server.process_id, self._endpoint.id, seat.number, addr, port)

    def _server_gone(self, _seat: Seat, server: Server, ended: Exit) -> None:
        lease = self._lease
        if lease is None or lease.client is None:
            return
        lease.client.notify(
            messages.ServerGone(
                lease.computation,
                server.process_id,
                server.location.addr,
                server.location.port,
                ended.exitcode,
                ended.signal,
                ended.stderr_tail,
                server.reason,
            )
        )


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@asynccontextmanager
async def serve_node(endpoint: Endpoint, *, servers: int, dest_path: Path | None = None) -> AsyncIterator[Node]:
    """Keep a node's servers while the block lasts; when it is left, they have ended."""
    with tempfile.TemporaryDirectory(prefix="discoro-", dir=dest_path, ignore_cleanup_errors=True) as folder:
        async with open_background() as nursery:
            node = Node(endpoint, nursery, servers, Path(folder))
            await nursery.start(node.keep_servers)
            yield node
