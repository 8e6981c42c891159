"""Decides which computation holds which server slots of a node; without I/O and without a clock.

The node is the authority for its servers: this state counts, whatever schedulers and clients believe. `_node` carries
out the decisions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from ..._config import PULSES
from ..._records import MutableRecord
from .._lease_terms import HeldLease

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._facts import Over
    from .._lease_terms import LeaseTerms


class LeaseState(MutableRecord, eq=False):
    """Server slots of this node, given to one computation."""

    terms: LeaseTerms
    scheduler_id: bytes
    """The id of the responsible scheduler: the one that requested the lease, or one that has taken over."""
    shared: bool
    """Whether the scheduler that requested it is shared."""
    slots: set[int] = msgspec.field(default_factory=set)
    orphan: bool = False
    """Whether the responsible scheduler is lost."""
    attended: bool = False
    """Whether its client has connected."""
    over: Over | None = None
    """Why it is ending; None if it is not."""
    busy: set[int] = msgspec.field(default_factory=set)
    """The server slots at which a coroutine runs, or which are being set up."""
    idle_since: dict[int, float] = msgspec.field(default_factory=dict)
    looked: int = 0
    """How often it was checked whether its client has connected, once per pulse interval."""
    next_look: float = 0.0
    """The time of the next check."""


class Holding:
    """The server slots of a node and their leases. A slot is free when its server is fresh and belongs to no lease.

    Args:
        slots: The numbers of the slots.
        most_leases: The most leases at a time; None for as many as there are server slots.
    """

    def __init__(self, slots: Iterable[int], *, most_leases: int | None = None) -> None:
        self.slots = sorted(slots)
        self._most_leases = most_leases
        self.leases: dict[bytes, LeaseState] = {}
        self._holder: dict[int, LeaseState] = {}

    @property
    def free(self) -> int:
        """The number of server slots that a new lease could get."""
        return 0 if self._full else len(self.slots) - len(self._holder)

    @property
    def _full(self) -> bool:
        return self._most_leases is not None and len(self.leases) >= self._most_leases

    def holder(self, slot: int) -> LeaseState | None:
        """Return the lease that holds a server slot, if any."""
        return self._holder.get(slot)

    # --- requests of schedulers

    def grant(self, now: float, terms: LeaseTerms, servers: int, *, scheduler_id: bytes, shared: bool) -> int:
        """Grant up to `servers` free server slots; return how many, 0 for a refusal.

        A computation that already has slots gets more only under the same terms.
        """
        lease = self.leases.get(terms.computation)
        if self._full if lease is None else lease.over is not None or not _same(lease, terms, scheduler_id):
            return 0
        slots = [slot for slot in self.slots if slot not in self._holder][: max(servers, 0)]
        if not slots:
            return 0
        if lease is None:
            lease = self.leases[terms.computation] = LeaseState(terms, scheduler_id, shared)
            lease.next_look = now + terms.pulse_interval
        for slot in slots:
            self._holder[slot] = lease
            lease.slots.add(slot)
            lease.busy.add(slot)  # until it is set up
            lease.idle_since[slot] = now
        return len(slots)

    def reported(self) -> list[HeldLease]:
        """Return the leases, to report them to a scheduler that joins or returns."""
        return [
            HeldLease(lease.terms, len(lease.slots), lease.scheduler_id, lease.shared, lease.orphan)
            for lease in self.leases.values()
            if lease.over is None
        ]

    def adopted(
        self, computations: Iterable[bytes], scheduler_id: bytes, reported: Iterable[HeldLease] = ()
    ) -> list[tuple[bytes, int]]:
        """Note that a scheduler is responsible for leases that another one had, or that it had before it was lost.

        Args:
            computations: The computations of those leases.
            scheduler_id: The scheduler.
            reported: The leases that were reported to it.

        Returns:
            How many servers of which computation were freed since the report: the scheduler counts them as given.
        """
        servers = {held.terms.computation: held.servers for held in reported}
        freed = []
        for computation in computations:
            lease = self.leases.get(computation)
            if lease is not None:
                lease.scheduler_id = scheduler_id
                lease.orphan = False
            gone = servers.get(computation, 0) - (0 if lease is None else len(lease.slots))
            if gone > 0:
                freed.append((computation, gone))
        return freed

    def scheduler_lost(self, scheduler_id: bytes) -> int:
        """Note that a scheduler is lost, which does not end its leases; return their number."""
        orphans = [lease for lease in self.leases.values() if lease.scheduler_id == scheduler_id]
        for lease in orphans:
            lease.orphan = True
        return len(orphans)

    # --- the ends of leases

    def end(self, computation: bytes, over: Over) -> bool:
        """Begin to end a lease; return False if its end has already begun."""
        lease = self.leases.get(computation)
        if lease is None or lease.over is not None:
            return False
        lease.over = over
        return True

    def ended(self, computation: bytes) -> int:
        """Note that all servers of a lease are gone; return the number of server slots that this frees."""
        lease = self.leases.pop(computation)
        for slot in lease.slots:
            del self._holder[slot]
        return len(lease.slots)

    def vacated(self, slot: int) -> None:
        """Note that a server of a lease is gone because it was idle."""
        lease = self._holder.pop(slot)
        lease.slots.discard(slot)
        lease.busy.discard(slot)
        lease.idle_since.pop(slot, None)
        if not lease.slots:
            del self.leases[lease.terms.computation]

    # --- the clock

    def activity(self, now: float, slot: int, *, busy: bool) -> None:
        """Note whether a coroutine runs at a server slot, or has run since the last report."""
        lease = self._holder.get(slot)
        if lease is None:
            return
        if busy:
            lease.busy.add(slot)
        else:
            lease.busy.discard(slot)
        lease.idle_since[slot] = now

    def idle(self, now: float) -> list[int]:
        """Return the server slots that were idle for their zombie period; each server decides whether it closes."""
        return [
            slot
            for slot, lease in self._holder.items()
            if lease.terms.zombie_period
            and lease.over is None
            and slot not in lease.busy
            and now - lease.idle_since[slot] >= lease.terms.zombie_period
        ]

    def asked_to_close(self, slot: int) -> None:
        """Note that the server of an idle server slot was asked to close; `activity` or `vacated` follows."""
        self._holder[slot].busy.add(slot)

    def unattended(self, now: float) -> list[bytes]:
        """Return the leases whose client did not connect within five pulse intervals.

        Checks are counted, not seconds: if this process did not run for a while, messages of the client may still be
        unread, and that time counts as one check.
        """
        for lease in self.leases.values():
            if not lease.attended and now >= lease.next_look:
                lease.looked += 1
                lease.next_look = now + lease.terms.pulse_interval
        return [
            computation
            for computation, lease in self.leases.items()
            if not lease.attended and lease.over is None and lease.looked >= PULSES
        ]

    def next_look(self) -> float:
        """Return the next time at which `idle` or `unattended` may return entries."""
        times = [lease.next_look for lease in self.leases.values() if not lease.attended and lease.over is None]
        times += [
            lease.idle_since[slot] + lease.terms.zombie_period
            for slot, lease in self._holder.items()
            if lease.terms.zombie_period and lease.over is None and slot not in lease.busy
        ]
        return min(times, default=math.inf)


def _same(lease: LeaseState, terms: LeaseTerms, scheduler_id: bytes) -> bool:
    held = lease.terms
    return (held.client_id, held.key) == (terms.client_id, terms.key) and lease.scheduler_id == scheduler_id
