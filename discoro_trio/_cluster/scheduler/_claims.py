"""The running and waiting computations of a scheduler, in the order of their queue entries.

This module decides which computation runs next. `_scheduling` decides which servers it gets.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from ..._records import MutableRecord
from .._facts import Over
from .._lease_terms import LeaseTerms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._allocations import Allocations
    from .._facts import ComputationRequest, NodeFacts
    from .._lease_terms import QueueEntry


class Claim(MutableRecord, eq=False):
    """A computation that waits or runs."""

    terms: LeaseTerms
    """The terms of its leases."""
    wishes: Allocations | None
    """None for a computation that a node reported and whose client has not come back yet."""
    running: bool = False
    detached: bool = False
    """Whether its client is unreachable. Nodes, which have links of their own to it, decide whether it is gone."""
    nodes: set[bytes] = msgspec.field(default_factory=set)
    """The nodes at which it has servers or has requested servers."""
    wanted: dict[bytes, int] = msgspec.field(default_factory=dict)
    """How many servers of each node it would take."""
    spent: dict[bytes, int] = msgspec.field(default_factory=dict)
    """How many servers of each node it had and no longer wants."""
    owner: str = ""
    """The user, host and program of its client, for display; empty until the client has come back."""
    queued_at: float | None = None
    """The time at which it was queued here, by Trio's clock."""
    began_at: float | None = None
    """The time at which its turn came, by Trio's clock; None if it waits, or an earlier scheduler gave it its turn."""
    bare_since: float | None = None
    """The time since which it runs without any server; None if it has servers or waits."""

    @property
    def computation(self) -> bytes:
        """The id of the computation."""
        return self.terms.computation

    @property
    def client_id(self) -> bytes:
        """The id of the client's process."""
        return self.terms.client_id

    @classmethod
    def of(
        cls, now: float, submission: ComputationRequest, queue_entry: QueueEntry, key: bytes, zombie_period: float
    ) -> Claim:
        """Make the claim of a computation that a client submitted at a time."""
        terms = LeaseTerms(
            submission.computation,
            submission.client_id,
            submission.name,
            queue_entry,
            key,
            zombie_period,
            submission.pulse_interval,
        )
        return cls(terms, submission.wishes, owner=submission.owner, queued_at=now)

    def note(self, facts: NodeFacts) -> None:
        """Note how many servers of a node it would take."""
        wanted = self.wishes.most(facts) if self.wishes is not None else 0
        if wanted:
            self.wanted[facts.node_id] = wanted
        else:
            self.wanted.pop(facts.node_id, None)

    def lost_node(self, now: float, node_id: bytes) -> None:
        """Note that it has no servers at a node any more."""
        self.nodes.discard(node_id)
        if self.running and not self.nodes and self.bare_since is None:
            self.bare_since = now

    def through_with(self, node_id: bytes, servers: int, over: Over) -> None:
        """Note that it does not want these servers of a node again, if it gave them back or left them idle."""
        if over in {Over.RELEASED, Over.IDLE}:
            self.spent[node_id] = self.spent.get(node_id, 0) + servers

    def demands(self) -> Iterator[tuple[bytes, int]]:
        """Return how many servers of each node it still wants."""
        for node_id, wanted in self.wanted.items():
            left = wanted - self.spent.get(node_id, 0)
            if left > 0:
                yield node_id, left


class Claims:
    """All computations of a scheduler, in the order of their queue entries."""

    def __init__(self) -> None:
        self._claims: dict[bytes, Claim] = {}

    def __iter__(self) -> Iterator[Claim]:
        return iter(sorted(self._claims.values(), key=lambda claim: claim.terms.queue_entry))

    def __len__(self) -> int:
        return len(self._claims)

    def get(self, computation: bytes) -> Claim | None:
        """Find a computation."""
        return self._claims.get(computation)

    def add(self, claim: Claim) -> None:
        """Add a computation."""
        self._claims[claim.computation] = claim

    def remove(self, computation: bytes) -> Claim | None:
        """Remove a computation, running or waiting."""
        return self._claims.pop(computation, None)

    def of_client(self, client_id: bytes) -> list[Claim]:
        """Return the computations of one client."""
        return [claim for claim in self._claims.values() if claim.client_id == client_id]

    def running(self) -> list[Claim]:
        """Return the computations whose turn has come."""
        return [claim for claim in self if claim.running]

    def holds(self, queue_entry: QueueEntry) -> bool:
        """Return whether a computation has this queue entry."""
        return any(claim.terms.queue_entry == queue_entry for claim in self._claims.values())

    def due(self, slots: dict[bytes, int]) -> list[Claim]:
        """Return the waiting computations whose turn it is: no earlier computation wants the same servers.

        Args:
            slots: The number of servers of each node.
        """
        taken: Counter[bytes] = Counter()
        everything = False
        found = []
        for claim in _running_first(self):
            whole = claim.wishes is None or claim.wishes.everything
            demands = list(claim.demands())
            fits = all(taken[node_id] + count <= slots.get(node_id, 0) for node_id, count in demands)
            if not claim.running and fits and not (whole and everything):
                found.append(claim)
            # A computation that must wait keeps its place: later ones do not get the servers that it wants.
            taken.update(dict(demands))
            everything = everything or whole
        return found


def _running_first(claims: Iterable[Claim]) -> list[Claim]:
    return sorted(claims, key=lambda claim: not claim.running)
