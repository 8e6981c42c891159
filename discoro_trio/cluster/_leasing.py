"""The leases of a node: granted to schedulers, prepared and released by clients, ended in order.

This module carries out what `_holding` decides. The servers themselves are with the seats.
"""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._errors import DiscoroError, UnknownLocation
from ..link import Done
from . import _messages as messages
from ._facts import Over, Ticket
from ._holding import Holding, Terms
from ._lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..link import Endpoint, Link
    from ..wire import Control
    from ._seat import Seat, Server

logger = logging.getLogger(__name__)

_REASONS = {
    Over.RELEASED: "the computation is closed",
    Over.REVOKED: "the scheduler took the servers back",
    Over.CLIENT: "the client is gone",
    Over.IDLE: "the server was idle for the zombie period",
}


class Leasing:
    """Who has which servers of a node.

    Attributes:
        schedulers: The schedulers that it has joined.
        served: The computations that had servers, and are over.
        resting: Whether no further computation gets servers.
    """

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery, seats: list[Seat], folder: Path) -> None:
        self.schedulers: list[Link] = []
        self.served = 0
        self.resting = False
        self.serve: int | None = None
        """After how many computations it rests; None for never."""
        self._free = trio.lowlevel.ParkingLot()
        self._endpoint = endpoint
        self._nursery = nursery
        self._seats = {seat.number: seat for seat in seats}
        self._folder = folder
        self._holding = Holding(self._seats)
        self._leases: dict[bytes, Lease] = {}
        self._refused: list[bytes] = []
        self._changed = trio.Event()
        services = endpoint.services
        services.on_request(messages.Grant, self._grant)
        services.on_notice(messages.Revoke, self._revoke)
        services.on_request(messages.Prepare, self._prepare)
        services.on_request(messages.Release, self._release)
        services.on_request(messages.Replace, self._replace)
        services.links_lost.append(self._lost)

    def lease_at(self, seat: Seat) -> Lease | None:
        """Give the lease that a seat belongs to."""
        held = self._holding.holder(seat.number)
        return self._leases.get(held.terms.computation) if held is not None else None

    def pulse_interval(self, seat: Seat) -> float:
        """Give the seconds between the pulses of whoever has a seat."""
        lease = self.lease_at(seat)
        return lease.terms.pulse_interval if lease is not None else config.MinPulseInterval

    def _seats_of(self, computation: bytes) -> Iterator[Seat]:
        held = self._holding.leases.get(computation)
        return (self._seats[number] for number in sorted(held.seats)) if held is not None else iter(())

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
        assert isinstance(welcome, messages.Welcome)  # noqa: S101 - the only reply there is
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
        lease = self._leases.setdefault(grant.computation, Lease(terms))
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

    def _tell_room(self, but: Link | None = None) -> None:
        """Tell schedulers how many servers are free; those that were refused hear of it first, in their order."""
        order = {scheduler_id: place for place, scheduler_id in enumerate(self._refused)}
        last = len(order)
        for link in sorted(self.schedulers, key=lambda link: order.get(link.peer.process_id, last)):
            if link is not but:
                link.notify(messages.Room(self._holding.free))

    def _revoke(self, link: Link, revoke: messages.Revoke) -> None:
        held = self._holding.leases.get(revoke.computation)
        if held is not None and held.scheduler_id == link.peer.process_id:
            self._end_soon(self._leases[revoke.computation], Over.REVOKED)

    async def until_free(self) -> None:
        """Wait until it rests and no computation has servers any more."""
        while not self.resting or self._leases:
            await self._free.park()

    def rest(self) -> None:
        """Give servers to no further computation; those that have some keep them."""
        self.resting = True
        self._free.unpark_all()

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
            await lease.install(prepare, self._folder)
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
        for seat in self._seats_of(replace.computation):
            server = seat.server
            if server is not None and server.process_id == replace.server_id:
                server.kill(replace.reason)
                await server.process.wait()
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
            server.lease = lease
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

    def active(self, seat: Seat, *, busy: bool) -> bytes:
        """Note whether anything runs at a seat; give the scheduler that answers for it."""
        held = self._holding.holder(seat.number)
        if held is None:
            return b""
        self._holding.activity(trio.current_time(), seat.number, busy=busy)
        if held.terms.zombie_period and not busy:
            self._look_again()
        return held.scheduler_id

    # --- ends

    def _end_soon(self, lease: Lease, over: Over) -> None:
        self._nursery.start_soon(self._end, lease, over, name=f"end the lease of {lease.terms.name}")

    async def _end(self, lease: Lease, over: Over) -> None:
        """End the servers of a lease, in order; when this returns, fresh ones are on the way."""
        if lease.ending is not None:
            await lease.ending.wait()
            return
        lease.ending = trio.Event()
        self._holding.end(lease.computation, over)
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for seat in self._seats_of(lease.computation):
                    if seat.server is not None:
                        nursery.start_soon(self._end_server, lease, seat.server, _REASONS[over])
        held = self._holding.leases[lease.computation]
        self._freed(lease, held.scheduler_id, self._holding.ended(lease.computation), over)
        lease.ending.set()

    def _freed(self, lease: Lease, scheduler_id: bytes, servers: int, over: Over) -> None:
        """Tell the scheduler that answers for them; all others hear how many are free."""
        if lease.computation not in self._holding.leases:
            lease.remove()
            del self._leases[lease.computation]
            self.served += 1
            logger.info("the computation %s is over", lease.terms.name)
            self._free.unpark_all()
        free = self._holding.free
        owners = {one.peer.process_id: one for one in self.schedulers}
        owner = owners.get(scheduler_id)
        if owner is not None:
            owner.notify(messages.Freed(lease.computation, servers, over.value, free))
        self._tell_room(owner)

    async def _end_server(self, lease: Lease, server: Server, reason: str) -> None:
        if lease.prepared is not None:
            with trio.move_on_after(lease.prepared.grace_period):
                try:
                    await server.request(messages.Finish(reason))
                except DiscoroError:
                    logger.debug("a server ended before it was asked to")
        server.kill(reason)
        await server.process.wait()

    # --- the clock

    def _look_again(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def keep_time(self) -> None:
        """End leases whose client does not come, and close servers that were idle for their zombie period."""
        while True:
            with trio.move_on_at(self._holding.next_look()):
                await self._changed.wait()
                continue
            now = trio.current_time()
            for computation in self._holding.unattended(now):
                self._end_soon(self._leases[computation], Over.CLIENT)
            for number in self._holding.idle(now):
                self._holding.asked_to_close(number)
                self._nursery.start_soon(self._close_idle, self._seats[number], name=f"close the idle seat {number}")

    async def _close_idle(self, seat: Seat) -> None:
        """Close a server if it says itself that it is still idle; what is started there from now on it refuses."""
        lease, server = self.lease_at(seat), seat.server
        if lease is None or lease.ending is not None:
            return
        if server is not None and server.lease is lease:
            try:
                reply: Control = await server.request(messages.CloseIfIdle())
            except DiscoroError:
                reply = messages.StillBusy()  # it has ended; its replacement has the whole period
            if isinstance(reply, messages.StillBusy) or lease.ending is not None:
                self._holding.activity(trio.current_time(), seat.number, busy=False)
                self._look_again()
                return
            server.idle = True
            server.kill(_REASONS[Over.IDLE])
            await server.process.wait()
        held = self._holding.holder(seat.number)
        if held is not None and lease.ending is None:
            self._holding.vacated(seat.number)
            self._freed(lease, held.scheduler_id, 1, Over.IDLE)
