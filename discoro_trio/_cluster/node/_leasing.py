"""The leases of a node: granted to schedulers, prepared and released by clients, ended in order.

This module carries out what `_holding` decides. The servers themselves are with the server slots.
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

import trio

from ..._errors import DiscoroError, UnknownLocation
from ..._link import Done, answered
from ..._process import blobs_of, files_of
from ..._values import Location
from .. import _messages as messages
from .._facts import Over
from ..scheduler._admin_requests import RestartServer
from ._lease import Lease
from ._lease_ends import LeaseEnds
from ._shared_values import SharedForServers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from ..._link import Endpoint, Link
    from ..._wire import Control
    from ..isolation._users import Users
    from ._server_slot import NodeServer, ServerSlot

logger = logging.getLogger(__name__)


class Leasing(LeaseEnds):
    """Who has which servers of a node: what schedulers and clients want of it."""

    def __init__(
        self, endpoint: Endpoint, nursery: trio.Nursery, slots: list[ServerSlot], folder: Path, users: Users
    ) -> None:
        super().__init__(endpoint, nursery, slots, users)
        self._folder = folder
        services = endpoint.services
        services.on_request(messages.Grant, self._grant)
        services.on_notice(messages.Revoke, self._revoke)
        services.on_request(messages.Prepare, self._prepare)
        services.on_request(messages.Release, self._release)
        services.on_request(messages.AreYouThere, _answer)
        services.on_request(messages.Replace, self._replace)
        services.on_request(messages.PutShared, self._put_shared)
        services.on_request(messages.DropShared, self._drop_shared)
        services.on_request(RestartServer, self._restart)
        services.links_lost.append(self._lost)

    # --- schedulers

    async def join(self, scheduler: Link, name: str) -> messages.Welcome:
        """Offer the servers to a scheduler, and say which are held."""
        location = self._endpoint.location
        here = messages.NodeIs(
            name,
            location.addr,
            location.port,
            len(self._slots),
            platform.platform(terse=True),
            self._holding.free,
            self._holding.reported(),
        )
        if scheduler not in self.schedulers:
            self.schedulers.append(scheduler)
        welcome = await scheduler.request(here)
        welcome = answered(welcome, messages.Welcome)
        self._holding.adopted(welcome.adopted, scheduler.peer.process_id)
        return welcome

    async def _grant(self, link: Link, grant: messages.Grant) -> messages.Granted | messages.NotGranted:
        scheduler_id, terms = link.peer.process_id, grant.terms
        if self.resting and terms.computation not in self._leases:
            return messages.NotGranted(self._held_locations())
        before = {slot.number for slot in self._slots_of(terms.computation)}
        now = trio.current_time()
        given = self._holding.grant(now, terms, grant.servers, scheduler_id=scheduler_id, shared=grant.shared)
        if not given:
            if scheduler_id not in self._refused:
                self._refused.append(scheduler_id)
            return messages.NotGranted(self._held_locations())
        lease = self._leases.get(terms.computation)
        if lease is None:
            shared = SharedForServers(blobs_of(self._endpoint))
            lease = self._leases[terms.computation] = Lease(terms, shared, self._users.take())
        for slot in self._slots_of(terms.computation):
            if slot.number not in before:
                self.begin(slot)
        if scheduler_id in self._refused:
            self._refused.remove(scheduler_id)
        logger.info("%d servers are given to the computation %s", given, lease.terms.name)
        if self.serve is not None and self.served + len(self._leases) >= self.serve:
            self.resting = True
        self._tell_room(link)
        self._look_again()
        return messages.Granted(given, self._holding.free)

    def _held_locations(self) -> list[tuple[str, int]]:
        servers = [slot.server for slot in self._slots.values() if self._holding.holder(slot.number) is not None]
        return [(one.location.addr, one.location.port) for one in servers if one is not None and one.up.is_set()]

    def _revoke(self, link: Link, revoke: messages.Revoke) -> None:
        held, lease = self._holding.leases.get(revoke.computation), self._leases.get(revoke.computation)
        if held is not None and lease is not None and held.scheduler_id == link.peer.process_id:
            self._end_soon(lease, Over.REVOKED)

    # --- clients

    def _held(self, link: Link, computation: bytes) -> Lease:
        lease = self._leases.get(computation)
        if lease is None or link.peer.process_id != lease.terms.client_id:
            message = f"the computation holds no servers of {self._endpoint.identity.name}"
            raise UnknownLocation(message)
        return lease

    async def _prepare(self, link: Link, prepare: messages.Prepare) -> messages.Prepared:
        lease = self._held(link, prepare.computation)
        lease.client = link
        self._holding.leases[prepare.computation].attended = True
        if lease.prepared is None:  # a client is told of a lease again when it grows, or the scheduler comes back
            await self._users.clear(lease.user)  # of what the last lease that had it has left running
            await lease.install(prepare, self._folder, files_of(self._endpoint), link)
        slots = list(self._slots_of(prepare.computation))
        for slot in slots:
            self.begin(slot)
        return messages.Prepared(len(slots), all(slot.dest_path is not None for slot in slots))

    async def _release(self, link: Link, release: messages.Release) -> Done:
        if release.computation in self._leases:
            await self._end(self._held(link, release.computation), Over.RELEASED)
        return Done()

    async def _replace(self, link: Link, replace: messages.Replace) -> Done:
        self._held(link, replace.computation)
        await _end_at_once(self._slots_of(replace.computation), replace.server_id, replace.reason)
        return Done()

    async def _put_shared(self, link: Link, put: messages.PutShared) -> Done:
        lease = self._held(link, put.computation)

        def link_to(source: messages.Source) -> Callable[[], Awaitable[Link]]:
            location = Location(source.addr, source.port)
            return lambda: self._endpoint.reach.link_to(source.process_id, location, b"", via=link)

        async def client() -> Link:
            await trio.lowlevel.checkpoint()
            return link

        await lease.shared.put(put.share, put.size, [*map(link_to, put.sources), client], put.descriptor)
        return Done()

    async def _drop_shared(self, link: Link, drop: messages.DropShared) -> Done:
        self._held(link, drop.computation).shared.drop(drop.share)
        return Done()

    async def _restart(self, link: Link, restart: RestartServer) -> Done:
        if link.peer.process_id not in {scheduler.peer.process_id for scheduler in self.schedulers}:
            message = "only a scheduler of this node can have its servers restarted"
            raise DiscoroError(message)
        await _end_at_once(self._slots.values(), restart.server_id, "somebody restarted it by way of the scheduler")
        return Done()

    def _lost(self, link: Link) -> None:
        if link in self.schedulers:
            self.schedulers.remove(link)
            orphans = self._holding.scheduler_lost(link.peer.process_id)
            for other in self.schedulers if orphans else ():
                self._nursery.start_soon(self._report_again, other, name=f"report orphaned leases to {other.peer_name}")
        for lease in list(self._leases.values()):
            if lease.client is link:
                self._end_soon(lease, Over.CLIENT)

    async def _report_again(self, scheduler: Link) -> None:
        """Offer leases whose scheduler was lost to one that this node had joined before: it may be its successor."""
        try:
            await self.join(scheduler, self._endpoint.identity.name)
        except DiscoroError as error:
            logger.info("the scheduler %s did not take the report of orphaned leases: %s", scheduler.peer_name, error)

    # --- servers

    def begin(self, slot: ServerSlot) -> None:
        """Set the server of a server slot up, if it listens and the client has said how."""
        lease, server = self.lease_at(slot), slot.server
        if lease is None or server is None or lease.prepared is None or lease.ending is not None:
            return
        if server.up.is_set() and server.lease is None:
            slot.belong_to(lease)
            self._nursery.start_soon(self._begin, lease, slot, server, name=f"set up {server.link.peer.name}")

    async def _begin(self, lease: Lease, slot: ServerSlot, server: NodeServer) -> None:
        reply = await lease.begin(server)
        if self.lease_at(slot) is lease:
            self.active(slot, busy=False)
        if reply is not None and lease.ending is None and lease.client is not None:
            lease.client.notify(self._begun(lease, slot, server, reply))

    def _begun(self, lease: Lease, slot: ServerSlot, server: NodeServer, reply: Control) -> Control:
        """Say to the client how the set-up of a server went."""
        computation, addr, port = lease.computation, server.location.addr, server.location.port
        if isinstance(reply, messages.SetUpFailed):
            name, stage, error = server.link.peer.name, reply.stage, reply.error
            return messages.ServerFailed(
                computation, server.process_id, self._endpoint.id, slot.number, name, addr, port, stage, error
            )
        return messages.ServerReady(computation, server.process_id, self._endpoint.id, slot.number, addr, port)


async def _answer(_link: Link, _question: messages.AreYouThere) -> Done:
    return Done()


async def _end_at_once(slots: Iterable[ServerSlot], server_id: bytes, reason: str) -> None:
    """End a server of one of these server slots; when this returns, it is gone, and a fresh one is on the way."""
    for server in [slot.server for slot in slots if slot.server is not None]:
        if server.process_id == server_id:
            server.kill(reason)
            await server.process.wait()
