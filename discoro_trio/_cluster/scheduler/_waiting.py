"""Describes what a computation waits for: its place in the queue, nodes, or a restarted scheduler.

Pure functions of the scheduler's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._records import Record

if TYPE_CHECKING:
    from ._claims import Claim
    from ._scheduling import Scheduling


class QueuePlace(Record, frozen=True):
    """A computation and its place."""

    claim: Claim
    place: int
    """Its place in the queue, from 1; 0 if its turn has come."""
    behind: Claim | None
    """The computation before it in the queue; for the first, a computation that has servers."""


def places(state: Scheduling) -> list[QueuePlace]:
    """Return the running computations, then the waiting ones in the order of the queue."""
    claims = list(state.claims)
    running = [claim for claim in claims if claim.running]
    waiting = [claim for claim in claims if not claim.running]
    serving = [claim for claim in running if claim.nodes]
    before = [serving[-1] if serving else None, *waiting]
    return [
        *(QueuePlace(claim, 0, None) for claim in running),
        *(QueuePlace(claim, place, before[place - 1]) for place, claim in enumerate(waiting, 1)),
    ]


def waits_for(at: QueuePlace, state: Scheduling, now: float) -> str:
    """Describe what a computation waits for; empty if it has servers.

    Args:
        at: The computation and its place.
        state: The nodes, and all computations.
        now: The time by Trio's clock.
    """
    claim = at.claim
    if claim.nodes:
        return ""
    settling = state.settles_for(now)
    if settling:
        return f"the scheduler was restarted and grants no servers for {settling:.0f} s until nodes report theirs"
    if not state.nodes:
        return "no node is connected to the scheduler"
    if claim.wishes is not None and not claim.wanted:
        return f"no node matches its node allocations ({len(state.nodes)} connected)"
    if claim.running:
        return _no_servers(claim, state)
    behind = f", behind {named(at.behind)}" if at.behind is not None else ""
    return f"place {at.place} in the queue{behind}"


def _no_servers(claim: Claim, state: Scheduling) -> str:
    nodes = [state.nodes[node_id] for node_id in claim.wanted if node_id in state.nodes]
    if all(node.suspended for node in nodes):
        return "the nodes that match are suspended"
    if claim.wishes is not None and claim.wishes.frugal:
        return "no node that matches has the memory or disk that it asks for, and free servers"
    return "the nodes that match have no free servers"


def named(claim: Claim) -> str:
    """Return the name of a computation and of its owner."""
    name = claim.terms.name or claim.computation.hex()[:8]
    return f"{name} of {claim.owner}" if claim.owner else name
