"""How leases of a node end: all at once, or one idle server after the other.

This module owns the node's leases, who is told when one ends, and the clock that ends those nobody uses. Giving and
preparing them is with `_leasing`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import DiscoroError
from ..._scopes import first_error
from .. import _messages as messages
from .._facts import Over
from ._holding import Holding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._link import Endpoint, Link
    from ..._wire import Control
    from ..isolation._users import Users
    from ._lease import Lease
    from ._server_slot import NodeServer, ServerSlot

logger = logging.getLogger(__name__)

_REASONS = {
    Over.RELEASED: "the computation is closed",
    Over.REVOKED: "the scheduler took the servers back",
    Over.CLIENT: "the client is gone",
    Over.IDLE: "the server was idle for the zombie period",
    Over.STOPPED: "the node ends",
    Over.DRAINED: "the node is drained",
}

_ANNOUNCEMENT = 1.0
"""Seconds for a client to take note that servers are about to end, before they do."""


class LeaseEnds:
    """The leases of a node, and their ends.

    Attributes:
        schedulers: The schedulers that it has joined.
        served: The computations that had servers, and are over.
        resting: Whether no further computation gets servers.
    """

    def __init__(self, endpoint: Endpoint, nursery: trio.Nursery, slots: list[ServerSlot], users: Users) -> None:
        self.schedulers: list[Link] = []
        self.served = 0
        self.resting = False
        self.serve: int | None = None
        """After how many computations it rests; None for never."""
        self._free = trio.lowlevel.ParkingLot()
        self._endpoint = endpoint
        self._nursery = nursery
        self._slots = {slot.number: slot for slot in slots}
        self._users = users
        self._holding = Holding(self._slots, most_leases=users.most_leases)
        self._leases: dict[bytes, Lease] = {}
        self._refused: list[bytes] = []
        self._changed = trio.Event()
        endpoint.keepalive.pulse_intervals.append(self._pulse_interval_with)

    def lease_at(self, slot: ServerSlot) -> Lease | None:
        """Give the lease that a server slot belongs to."""
        held = self._holding.holder(slot.number)
        return self._leases.get(held.terms.computation) if held is not None else None

    def pulse_interval(self, slot: ServerSlot) -> float:
        """Give the seconds between the pulses of whoever has a server slot."""
        lease = self.lease_at(slot)
        return lease.terms.pulse_interval if lease is not None else config.MinPulseInterval

    def _pulse_interval_with(self, link: Link) -> float | None:
        """Give the interval in force with a client, or with a scheduler that answers for leases; None for others."""
        peer = link.peer.process_id
        held = self._holding.leases.values()
        intervals = [one.terms.pulse_interval for one in held if peer in {one.terms.client_id, one.scheduler_id}]
        return max(intervals, default=None)

    def _slots_of(self, computation: bytes) -> Iterator[ServerSlot]:
        held = self._holding.leases.get(computation)
        return (self._slots[number] for number in sorted(held.slots)) if held is not None else iter(())

    def _tell_room(self, but: Link | None = None) -> None:
        """Tell schedulers how many servers are free; those that were refused hear of it first, in their order."""
        order = {scheduler_id: place for place, scheduler_id in enumerate(self._refused)}
        last = len(order)
        for link in sorted(self.schedulers, key=lambda link: order.get(link.peer.process_id, last)):
            if link is not but:
                link.notify(messages.Room(self._holding.free))

    async def until_free(self) -> None:
        """Wait until it rests and no computation has servers any more."""
        while not self.resting or self._leases:
            await self._free.park()

    def rest(self) -> None:
        """Give servers to no further computation; those that have some keep them."""
        self.resting = True
        self._free.unpark_all()

    def close(self) -> None:
        """Note that the servers have ended with the node's block: links that are lost later end no leases."""
        self.resting = True
        for lease in self._leases.values():
            lease.shared.close()
        self._leases.clear()

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
            if over in {Over.STOPPED, Over.DRAINED}:
                await self._announce(lease, _REASONS[over])
            async with trio.open_nursery() as nursery:
                for slot in self._slots_of(lease.computation):
                    if slot.server is not None:
                        nursery.start_soon(self._end_server, lease, slot.server, over)
            await self._users.tidy(lease.user)
        held = self._holding.leases[lease.computation]
        self._freed(lease, held.scheduler_id, self._holding.ended(lease.computation), over)
        lease.ending.set()

    def _freed(self, lease: Lease, scheduler_id: bytes, servers: int, over: Over) -> None:
        """Tell the scheduler that answers for them; all others hear how many are free."""
        if lease.computation not in self._holding.leases:
            lease.remove()
            if lease.client is not None and over is not Over.RELEASED:
                lease.client.notify(messages.LeaseEnded(lease.computation, self._endpoint.id))
            self._leases.pop(lease.computation, None)  # `close` may have been quicker
            self._users.give_back(lease.user)
            self.served += 1
            left = f"; its files stay in {lease.kept}" if lease.kept is not None and lease.kept.exists() else ""
            logger.info("the computation %s is over%s", lease.terms.name, left)
            self._free.unpark_all()
        free = self._holding.free
        owners = {one.peer.process_id: one for one in self.schedulers}
        owner = owners.get(scheduler_id)
        if owner is not None:
            owner.notify(messages.ServersFreed(lease.computation, servers, over.value, free))
        self._tell_room(owner)

    async def _announce(self, lease: Lease, reason: str) -> None:
        """Have a client start nothing more at servers that are about to end."""
        if lease.client is not None:
            with suppress(DiscoroError):
                ending = messages.LeaseEnding(lease.computation, self._endpoint.id, reason)
                await lease.client.request(ending, timeout=_ANNOUNCEMENT)

    async def end_all(self, over: Over) -> None:
        """Give servers to no further computation, and end all leases in order."""
        self.rest()
        try:
            async with trio.open_nursery() as nursery:
                for lease in list(self._leases.values()):
                    nursery.start_soon(self._end, lease, over)
        except BaseExceptionGroup as group:  # such as a second Ctrl-C, which is to leave the node's block as it is
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

    def active(self, slot: ServerSlot, *, busy: bool) -> bytes:
        """Note whether anything runs at a server slot; give the scheduler that answers for it."""
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
                self._nursery.start_soon(self._close_idle, self._slots[number], name=f"close the idle seat {number}")

    async def _close_idle(self, slot: ServerSlot) -> None:
        """Close a server if it says itself that it is still idle; what is started there from now on it refuses."""
        lease, server = self.lease_at(slot), slot.server
        if lease is None or lease.ending is not None:
            return
        if server is not None and server.lease is lease:
            try:
                reply: Control = await server.request(messages.CloseIfIdle())
            except DiscoroError:
                reply = messages.StillBusy()  # it has ended; its replacement has the whole period
            if isinstance(reply, messages.StillBusy) or lease.ending is not None:
                self._holding.activity(trio.current_time(), slot.number, busy=False)
                self._look_again()
                return
            server.idle = True
            await self._end_server(lease, server, Over.IDLE)
        held = self._holding.holder(slot.number)
        if held is not None and lease.ending is None:
            self._holding.vacated(slot.number)
            self._freed(lease, held.scheduler_id, 1, Over.IDLE)
