"""Which computation holds which server slots of a node: the node's decisions, without I/O and without a clock.

The node is the authority for its servers: what stands here is what counts, whatever schedulers and clients believe.
`_node` carries out what is decided here.
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
    """The scheduler that answers for it: the one that asked, or one that has taken over."""
    shared: bool
    """Whether the scheduler that asked is a shared one."""
    slots: set[int] = msgspec.field(default_factory=set)
    orphan: bool = False
    """Whether that scheduler is lost."""
    attended: bool = False
    """Whether its client has come."""
    over: Over | None = None
    """Why it is ending, if it is."""
    busy: set[int] = msgspec.field(default_factory=set)
    """The server slots at which something runs, or which are being set up."""
    idle_since: dict[int, float] = msgspec.field(default_factory=dict)
    looked: int = 0
    """How often it was looked whether its client has come, once a pulse."""
    next_look: float = 0.0
    """When it is looked again."""


class Holding:
    """The server slots of a node and who has them. A server slot is free when its server is fresh and nobody's.

    Args:
        slots: Their numbers.
        most_leases: How many leases there can be at once; None for as many as there are server slots.
    """

    def __init__(self, slots: Iterable[int], *, most_leases: int | None = None) -> None:
        self.slots = sorted(slots)
        self._most_leases = most_leases
        self.leases: dict[bytes, LeaseState] = {}
        self._holder: dict[int, LeaseState] = {}

    @property
    def free(self) -> int:
        """The number of server slots that a further lease could have."""
        return 0 if self._full else len(self.slots) - len(self._holder)

    @property
    def _full(self) -> bool:
        return self._most_leases is not None and len(self.leases) >= self._most_leases

    def holder(self, slot: int) -> LeaseState | None:
        """Tell who has a server slot."""
        return self._holder.get(slot)

    # --- what schedulers want

    def grant(self, now: float, terms: LeaseTerms, servers: int, *, scheduler_id: bytes, shared: bool) -> int:
        """Grant up to `servers` free server slots; return how many, 0 for a refusal.

        A computation that has some gets more only under the terms that it has.
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
        """Say what is held, to a scheduler that joins or returns."""
        return [
            HeldLease(lease.terms, len(lease.slots), lease.scheduler_id, lease.shared, lease.orphan)
            for lease in self.leases.values()
            if lease.over is None
        ]

    def adopted(self, computations: Iterable[bytes], scheduler_id: bytes) -> None:
        """Note that a scheduler answers for leases that were another's, or its own before it was lost."""
        for computation in computations:
            lease = self.leases.get(computation)
            if lease is not None:
                lease.scheduler_id = scheduler_id
                lease.orphan = False

    def scheduler_lost(self, scheduler_id: bytes) -> int:
        """Note that a scheduler is lost; its leases stay, for it closes nothing. Give their number."""
        orphans = [lease for lease in self.leases.values() if lease.scheduler_id == scheduler_id]
        for lease in orphans:
            lease.orphan = True
        return len(orphans)

    # --- their ends

    def end(self, computation: bytes, over: Over) -> bool:
        """Begin the end of a lease; return whether it had not begun."""
        lease = self.leases.get(computation)
        if lease is None or lease.over is not None:
            return False
        lease.over = over
        return True

    def ended(self, computation: bytes) -> int:
        """Note that all servers of a lease are gone; return the number of server slots that are free by that."""
        lease = self.leases.pop(computation)
        for slot in lease.slots:
            del self._holder[slot]
        return len(lease.slots)

    def vacated(self, slot: int) -> None:
        """Note that one server of a lease is gone because it was idle."""
        lease = self._holder.pop(slot)
        lease.slots.discard(slot)
        lease.busy.discard(slot)
        lease.idle_since.pop(slot, None)
        if not lease.slots:
            del self.leases[lease.terms.computation]

    # --- the clock

    def activity(self, now: float, slot: int, *, busy: bool) -> None:
        """Note whether anything runs at a server slot, or has since the last word."""
        lease = self._holder.get(slot)
        if lease is None:
            return
        if busy:
            lease.busy.add(slot)
        else:
            lease.busy.discard(slot)
        lease.idle_since[slot] = now

    def idle(self, now: float) -> list[int]:
        """Return the server slots that were idle for their zombie period; the servers themselves have the last word."""
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
        """Return the leases whose client did not come within five pulses.

        Looks are counted, not seconds: when this process did not run for a while, what its client said may wait to be
        read, and that while is one look.
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
        """Return the next time at which `idle` or `unattended` may have something."""
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
