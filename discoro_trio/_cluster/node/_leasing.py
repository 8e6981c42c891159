"""The leases of a node: granted to schedulers, prepared and released by clients, ended in order.

This module notifies schedulers and clients of the ends of leases, and owns the clock. It carries out the decisions of
`_holding`. The server slots own the servers.
"""

from __future__ import annotations

import logging
import math
import platform
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError, UnknownLocation
from ..._link import Done, answered
from ..._printable import printable
from ..._process import blobs_of, files_of
from ..._scopes import first_error
from ..._shipping._versions import installed_versions, python_version
from ..._values import Location
from .. import _messages as messages
from .._facts import Over
from ..scheduler._admin_requests import DrainNode, RestartServer
from ._holding import Holding
from ._lease import Lease
from ._shared_values import SharedForServers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from ..._link import Endpoint, Link
    from ..._wire import Control
    from ..isolation._users import Users
    from ._server_slot import NodeServer, ServerSlot

logger = logging.getLogger(__name__)


_REASONS = {
    Over.RELEASED: "the computation is closed",
    Over.REVOKED: "the scheduler took the servers back",
    Over.CLIENT: "the client is gone",
    Over.IDLE: "the server was idle for the zombie period",
    Over.STOPPED: "the node is stopped",
    Over.DRAINED: "the node is drained",
}

_LOOK = 0.1
"""Seconds between two checks whether a coroutine runs at a drained node."""

_ANNOUNCEMENT = 1.0
"""Seconds that a client has to acknowledge that servers will end, before they do."""


class Leasing:
    """The leases of a node.

    Schedulers request leases, clients prepare and release them, and a clock ends leases that are not used.

    Attributes:
        schedulers: The schedulers that it has joined.
        served: The number of computations that had servers and are over.
        resting: Whether no further computation gets servers.
    """

    def __init__(
        self, endpoint: Endpoint, nursery: trio.Nursery, slots: list[ServerSlot], folder: Path, users: Users
    ) -> None:
        self.schedulers: list[Link] = []
        self.served = 0
        self.resting = False
        self.serve: int | None = None
        """The number of computations after which it gives no more servers; None for no limit."""
        self._free = trio.lowlevel.ParkingLot()
        self._endpoint = endpoint
        self._nursery = nursery
        self._slots = {slot.number: slot for slot in slots}
        self._users = users
        self._holding = Holding(self._slots, most_leases=users.most_leases)
        self._leases: dict[bytes, Lease] = {}
        self._refused: list[bytes] = []
        self._changed = trio.Event()
        self._folder = folder
        services = endpoint.services
        services.on_request(messages.Grant, self._grant)
        services.on_notice(messages.Revoke, self._revoke)
        services.on_request(messages.Prepare, self._prepare)
        services.on_request(messages.Release, self._release)
        services.on_request(messages.AreYouThere, _answer)
        services.on_request(messages.AskVersions, _versions)
        services.on_request(messages.Replace, self._replace)
        services.on_request(messages.PutShared, self._put_shared)
        services.on_request(messages.DropShared, self._drop_shared)
        services.on_request(RestartServer, self._restart)
        services.on_request(DrainNode, self._drain)
        services.links_lost.append(self._lost)
        endpoint.keepalive.pulse_intervals.append(self._pulse_interval_with)

    # --- schedulers

    async def join(self, scheduler: Link, name: str) -> messages.Welcome:
        """Offer the servers to a scheduler, and report the leases."""
        location = self._endpoint.location
        reported = self._holding.reported()
        here = messages.NodeIs(
            name,
            location.addr,
            location.port,
            len(self._slots),
            platform.platform(terse=True),
            self._holding.free,
            reported,
        )
        if scheduler not in self.schedulers:
            self.schedulers.append(scheduler)
        welcome = await scheduler.request(here)
        welcome = answered(welcome, messages.Welcome)
        for computation, servers in self._holding.adopted(welcome.adopted, scheduler.peer.process_id, reported):
            over = Over.CLIENT.value  # they were freed before the scheduler was responsible for them
            scheduler.notify(messages.ServersFreed(computation, servers, over, self._holding.free))
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
        logger.info("granted %d servers to the computation %s", given, printable(lease.terms.name))
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
        # A client prepares a lease again when it grows, or when the scheduler comes back, even before the first time
        # is over.
        async with lease.preparing:
            if lease.prepared is None:
                await self._users.clear(lease.user)  # processes that the user's last lease has left running
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
            message = "only a scheduler of this node can restart its servers"
            raise DiscoroError(message)
        await _end_at_once(self._slots.values(), restart.server_id, "an admin request restarted it")
        return Done()

    async def _drain(self, link: Link, drain: DrainNode) -> Done:
        """Wait until no computation of a scheduler has servers here; end leases that exceed the time limit."""
        scheduler_id = link.peer.process_id
        async with trio.open_nursery() as nursery:
            for lease in list(self._leases.values()):
                if self._holding.leases[lease.computation].scheduler_id == scheduler_id:
                    nursery.start_soon(self.drain, lease, drain.within)
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
        """Report leases of a lost scheduler to another scheduler that this node has joined: it may be the successor."""
        try:
            await self.join(scheduler, self._endpoint.identity.name)
        except DiscoroError as error:
            logger.info("the scheduler %s did not accept the report of orphaned leases: %s", scheduler.peer_name, error)

    # --- servers

    def begin(self, slot: ServerSlot) -> None:
        """Set up the server of a server slot, if it listens and the client has prepared the lease."""
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
        """Report to the client how the set-up of a server went."""
        computation, addr, port = lease.computation, server.location.addr, server.location.port
        if isinstance(reply, messages.SetUpFailed):
            name, stage, error = server.link.peer.name, reply.stage, reply.error
            return messages.ServerFailed(
                computation, server.process_id, self._endpoint.id, slot.number, name, addr, port, stage, error
            )
        return messages.ServerReady(computation, server.process_id, self._endpoint.id, slot.number, addr, port)

    # --- how leases end

    def lease_at(self, slot: ServerSlot) -> Lease | None:
        """Return the lease that a server slot belongs to."""
        held = self._holding.holder(slot.number)
        return self._leases.get(held.terms.computation) if held is not None else None

    def pulse_interval(self, slot: ServerSlot) -> float:
        """Return the pulse interval of the computation that holds a server slot."""
        lease = self.lease_at(slot)
        return lease.terms.pulse_interval if lease is not None else config.MinPulseInterval

    def _pulse_interval_with(self, link: Link) -> float | None:
        """Return the pulse interval in force with a client or a responsible scheduler; None for other peers."""
        peer = link.peer.process_id
        held = self._holding.leases.values()
        intervals = [one.terms.pulse_interval for one in held if peer in {one.terms.client_id, one.scheduler_id}]
        return max(intervals, default=None)

    def _slots_of(self, computation: bytes) -> Iterator[ServerSlot]:
        held = self._holding.leases.get(computation)
        return (self._slots[number] for number in sorted(held.slots)) if held is not None else iter(())

    def _tell_room(self, but: Link | None = None) -> None:
        """Report the number of free servers to schedulers; first to those that were refused, in their order."""
        order = {scheduler_id: place for place, scheduler_id in enumerate(self._refused)}
        last = len(order)
        for link in sorted(self.schedulers, key=lambda link: order.get(link.peer.process_id, last)):
            if link is not but:
                link.notify(messages.Room(self._holding.free))

    async def until_free(self) -> None:
        """Wait until it gives no further servers and no computation has servers."""
        while not self.resting or self._leases:
            await self._free.park()

    def rest(self) -> None:
        """Give servers to no further computation; computations that have servers keep them."""
        self.resting = True
        self._free.unpark_all()

    def close(self) -> None:
        """Note that the servers have ended with the node's block: links lost after that do not end leases."""
        self.resting = True
        for lease in self._leases.values():
            lease.shared.close()
        self._leases.clear()

    # --- ends

    def _end_soon(self, lease: Lease, over: Over) -> None:
        self._nursery.start_soon(self._end, lease, over, name=f"end the lease of {lease.terms.name}")

    async def _end(self, lease: Lease, over: Over) -> None:
        """End the servers of a lease in order; when this returns, replacements are being started."""
        if lease.ending is not None:
            await lease.ending.wait()
            return
        lease.ending = trio.Event()
        self._holding.end(lease.computation, over)
        with trio.CancelScope(shield=True):
            if over in {Over.STOPPED, Over.DRAINED}:
                await self._announce(lease, over, finishes=False)
            async with trio.open_nursery() as nursery:
                for slot in self._slots_of(lease.computation):
                    if slot.server is not None:
                        nursery.start_soon(self._end_server, lease, slot.server, over)
            await self._users.tidy(lease.user)
        held = self._holding.leases[lease.computation]
        self._freed(lease, held.scheduler_id, self._holding.ended(lease.computation), over)
        lease.ending.set()

    def _freed(self, lease: Lease, scheduler_id: bytes, servers: int, over: Over) -> None:
        """Report freed servers to the responsible scheduler, and the number of free servers to the others."""
        if lease.computation not in self._holding.leases:
            lease.remove()
            if lease.client is not None and over is not Over.RELEASED:
                lease.client.notify(messages.LeaseEnded(lease.computation, self._endpoint.id))
            self._leases.pop(lease.computation, None)  # `close` may have removed it already
            self._users.give_back(lease.user)
            self.served += 1
            left = f"; its files stay in {lease.kept}" if lease.kept is not None and lease.kept.exists() else ""
            logger.info("the computation %s is over%s", printable(lease.terms.name), left)
            self._free.unpark_all()
        free = self._holding.free
        owners = {one.peer.process_id: one for one in self.schedulers}
        owner = owners.get(scheduler_id)
        if owner is not None:
            owner.notify(messages.ServersFreed(lease.computation, servers, over.value, free))
        self._tell_room(owner)

    async def _announce(self, lease: Lease, over: Over, *, finishes: bool) -> None:
        """Ask a client to start nothing more at servers that will end soon."""
        if lease.client is not None:
            with suppress(DiscoroError):
                ending = messages.LeaseEnding(lease.computation, self._endpoint.id, _REASONS[over], finishes)
                await lease.client.request(ending, timeout=_ANNOUNCEMENT)

    async def drain(self, lease: Lease, within: float | None) -> None:
        """End a lease when no coroutine of it runs here, or after `within` seconds."""
        await self._announce(lease, Over.DRAINED, finishes=True)
        with trio.move_on_after(math.inf if within is None else within):
            async with trio.open_nursery() as nursery:
                for slot in self._slots_of(lease.computation):
                    nursery.start_soon(self._until_idle, lease, slot)
        await self._end(lease, Over.DRAINED)

    async def _until_idle(self, lease: Lease, slot: ServerSlot) -> None:
        """Wait until a server confirms that no coroutine runs there; after that it refuses new ones.

        The reports of servers are not enough: a coroutine that has just begun, or blocks its server, is not in them.
        """
        while lease.ending is None:
            server = slot.server
            if server is None or server.lease is not lease or await _closes(server):
                return
            await trio.sleep(_LOOK)

    async def drain_all(self, within: float | None) -> None:
        """Stop giving servers, and drain all leases."""
        self.rest()
        async with trio.open_nursery() as nursery:
            for lease in list(self._leases.values()):
                nursery.start_soon(self.drain, lease, within)

    async def end_all(self, over: Over) -> None:
        """Stop giving servers, and end all leases in order."""
        self.rest()
        try:
            async with trio.open_nursery() as nursery:
                for lease in list(self._leases.values()):
                    nursery.start_soon(self._end, lease, over)
        except BaseExceptionGroup as group:  # such as a second Ctrl-C, which must leave the node's block unchanged
            raise first_error(group) from None

    async def _end_server(self, lease: Lease, server: NodeServer, over: Over) -> None:
        reason = _REASONS[over]
        if lease.prepared is not None:
            with trio.move_on_after(lease.prepared.grace_period):
                try:
                    await server.request(messages.Finish(reason, over is not Over.RELEASED))
                except DiscoroError:
                    logger.debug("a server ended before it was asked to")
        server.kill(reason)
        await server.gone.wait()

    # --- the clock

    def scheduler_of(self, slot: ServerSlot) -> bytes | None:
        """Return the id of the scheduler responsible for a server slot; None if the slot is free."""
        held = self._holding.holder(slot.number)
        return None if held is None else held.scheduler_id

    def active(self, slot: ServerSlot, *, busy: bool) -> bytes:
        """Note whether a coroutine runs at a server slot; return the id of the responsible scheduler."""
        held = self._holding.holder(slot.number)
        if held is None:
            return b""
        self._holding.activity(trio.current_time(), slot.number, busy=busy)
        if held.terms.zombie_period and not busy:
            self._look_again()
        return held.scheduler_id

    def _look_again(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def keep_time(self) -> None:
        """End leases whose client does not connect, and close servers that were idle for their zombie period."""
        while True:
            with trio.move_on_at(self._holding.next_look()):
                await self._changed.wait()
                continue
            now = trio.current_time()
            for computation in self._holding.unattended(now):
                self._end_soon(self._leases[computation], Over.CLIENT)
            for number in self._holding.idle(now):
                self._holding.asked_to_close(number)
                self._nursery.start_soon(self._close_idle, self._slots[number], name=f"close the idle server {number}")

    async def _close_idle(self, slot: ServerSlot) -> None:
        """Close a server if it confirms that it is still idle; after that it refuses new coroutines."""
        lease, server = self.lease_at(slot), slot.server
        if lease is None or lease.ending is not None:
            return
        if server is not None and server.lease is lease:
            # If it has ended, its replacement has the whole period.
            if not await _closes(server) or lease.ending is not None:
                self._holding.activity(trio.current_time(), slot.number, busy=False)
                self._look_again()
                return
            await self._end_server(lease, server, Over.IDLE)
        held = self._holding.holder(slot.number)
        if held is not None and lease.ending is None:
            self._holding.vacated(slot.number)
            self._freed(lease, held.scheduler_id, 1, Over.IDLE)


async def _answer(_link: Link, _question: messages.AreYouThere) -> Done:
    return Done()


async def _versions(_link: Link, ask: messages.AskVersions) -> messages.VersionsAre:
    packages = await trio.to_thread.run_sync(installed_versions, ask.packages)
    return messages.VersionsAre(python_version(), packages)


async def _closes(server: NodeServer) -> bool:
    """Ask a server to refuse new coroutines if none runs there; return whether it does."""
    try:
        reply = await server.request(messages.CloseIfIdle())
    except DiscoroError:  # it has ended
        return False
    server.idle = not isinstance(reply, messages.StillBusy)
    return server.idle


async def _end_at_once(slots: Iterable[ServerSlot], server_id: bytes, reason: str) -> None:
    """Kill a server of one of these server slots; when this returns, it is gone and a new one is being started."""
    for server in [slot.server for slot in slots if slot.server is not None]:
        if server.process_id == server_id:
            server.kill(reason)
            await server.process.wait()
