"""The leases of a node: granted to schedulers, prepared and released by clients, ended in order.

This module carries out what `_holding` decides. The servers themselves are with the seats.
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

import trio

from .._errors import DiscoroError, UnknownLocation
from ..link import Done, answered
from ..process import files_of
from . import _messages as messages
from ._facts import Over, Ticket
from ._holding import Terms
from ._lease import Lease
from ._lease_ends import LeaseEnds
from ._steering import RestartServer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ..link import Endpoint, Link
    from ..wire import Control
    from ._seat import Seat, Server
    from ._users import Users

logger = logging.getLogger(__name__)


class Leasing(LeaseEnds):
    """Who has which servers of a node: what schedulers and clients want of it."""

    def __init__(
        self, endpoint: Endpoint, nursery: trio.Nursery, seats: list[Seat], folder: Path, users: Users
    ) -> None:
        super().__init__(endpoint, nursery, seats, users)
        self._folder = folder
        services = endpoint.services
        services.on_request(messages.Grant, self._grant)
        services.on_notice(messages.Revoke, self._revoke)
        services.on_request(messages.Prepare, self._prepare)
        services.on_request(messages.Release, self._release)
        services.on_request(messages.Replace, self._replace)
        services.on_request(RestartServer, self._restart)
        services.links_lost.append(self._lost)

    # --- schedulers

    async def join(self, scheduler: Link, name: str) -> messages.Welcome:
        """Offer the servers to a scheduler, and say which are held."""
        location = self._endpoint.location
        held = [
            messages.HeldLease(
                one.computation,
                one.client_id,
                one.name,
                one.ticket.epoch,
                one.ticket.number,
                one.key,
                one.servers,
                one.scheduler_id,
                one.shared,
                one.orphan,
            )
            for one in self._holding.reported()
        ]
        here = messages.NodeIs(
            name,
            location.addr,
            location.port,
            len(self._seats),
            platform.platform(terse=True),
            self._holding.free,
            held,
        )
        self.schedulers.append(scheduler)
        welcome = await scheduler.request(here)
        welcome = answered(welcome, messages.Welcome)
        self._holding.adopted(welcome.adopted, scheduler.peer.process_id)
        return welcome

    async def _grant(self, link: Link, grant: messages.Grant) -> messages.Granted | messages.NotGranted:
        scheduler_id = link.peer.process_id
        terms = Terms(
            grant.computation,
            grant.client_id,
            grant.name,
            Ticket(grant.epoch, grant.number),
            grant.key,
            grant.servers,
            grant.zombie_period,
            grant.pulse_interval,
            scheduler_id,
            grant.shared,
        )
        if self.resting and grant.computation not in self._leases:
            return messages.NotGranted(self._held_locations())
        before = {seat.number for seat in self._seats_of(grant.computation)}
        given = self._holding.grant(trio.current_time(), terms)
        if not given:
            if scheduler_id not in self._refused:
                self._refused.append(scheduler_id)
            return messages.NotGranted(self._held_locations())
        lease = self._leases.get(grant.computation)
        if lease is None:
            lease = self._leases[grant.computation] = Lease(terms, self._users.take())
        for seat in self._seats_of(grant.computation):
            if seat.number not in before:
                self.begin(seat)
        if scheduler_id in self._refused:
            self._refused.remove(scheduler_id)
        logger.info("%d servers are given to the computation %s", given, lease.terms.name)
        if self.serve is not None and self.served + len(self._leases) >= self.serve:
            self.resting = True
        self._tell_room(link)
        self._look_again()
        return messages.Granted(given, self._holding.free)

    def _held_locations(self) -> list[tuple[str, int]]:
        servers = [seat.server for seat in self._seats.values() if self._holding.holder(seat.number) is not None]
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
            await lease.install(prepare, self._folder, files_of(self._endpoint))
        seats = list(self._seats_of(prepare.computation))
        for seat in seats:
            self.begin(seat)
        return messages.Prepared(len(seats))

    async def _release(self, link: Link, release: messages.Release) -> Done:
        if release.computation in self._leases:
            await self._end(self._held(link, release.computation), Over.RELEASED)
        return Done()

    async def _replace(self, link: Link, replace: messages.Replace) -> Done:
        self._held(link, replace.computation)
        await _end_at_once(self._seats_of(replace.computation), replace.server_id, replace.reason)
        return Done()

    async def _restart(self, link: Link, restart: RestartServer) -> Done:
        if link.peer.process_id not in {scheduler.peer.process_id for scheduler in self.schedulers}:
            message = "only a scheduler of this node can have its servers restarted"
            raise DiscoroError(message)
        await _end_at_once(self._seats.values(), restart.server_id, "somebody restarted it by way of the scheduler")
        return Done()

    def _lost(self, link: Link) -> None:
        if link in self.schedulers:
            self.schedulers.remove(link)
            self._holding.scheduler_lost(link.peer.process_id)
        for lease in list(self._leases.values()):
            if lease.client is link:
                self._end_soon(lease, Over.CLIENT)

    # --- servers

    def begin(self, seat: Seat) -> None:
        """Set the server of a seat up, if it listens and the client has said how."""
        lease, server = self.lease_at(seat), seat.server
        if lease is None or server is None or lease.prepared is None or lease.ending is not None:
            return
        if server.up.is_set() and server.lease is None:
            seat.belong_to(lease)
            self._nursery.start_soon(self._begin, lease, seat, server, name=f"set up {server.link.peer.name}")

    async def _begin(self, lease: Lease, seat: Seat, server: Server) -> None:
        reply = await lease.begin(server)
        if self.lease_at(seat) is lease:
            self.active(seat, busy=False)
        if reply is not None and lease.ending is None and lease.client is not None:
            lease.client.notify(self._begun(lease, seat, server, reply))

    def _begun(self, lease: Lease, seat: Seat, server: Server, reply: Control) -> Control:
        """Say to the client how the set-up of a server went."""
        computation, addr, port = lease.computation, server.location.addr, server.location.port
        if isinstance(reply, messages.SetUpFailed):
            name, stage, error = server.link.peer.name, reply.stage, reply.error
            return messages.ServerFailed(
                computation, server.process_id, self._endpoint.id, seat.number, name, addr, port, stage, error
            )
        return messages.ServerReady(computation, server.process_id, self._endpoint.id, seat.number, addr, port)


async def _end_at_once(seats: Iterable[Seat], server_id: bytes, reason: str) -> None:
    """End a server of one of these seats; when this returns, it is gone, and a fresh one is on the way."""
    for server in [seat.server for seat in seats if seat.server is not None]:
        if server.process_id == server_id:
            server.kill(reason)
            await server.process.wait()
