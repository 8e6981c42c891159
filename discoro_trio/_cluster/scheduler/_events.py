"""The events of the scheduler's state machine and the resulting decisions, as values that can be kept and replayed.

Each event carries the id of the process whose message or end caused it; events of the clock carry none. `_scheduling`
decides what follows from an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._records import Record

if TYPE_CHECKING:
    from .._facts import ComputationRequest, Freed, NodeFacts, Resources
    from .._lease_terms import HeldLease, QueueEntry
    from ._effects import Effect


class Submitted(Record, frozen=True):
    """A client submits a computation, or comes back with it."""

    cause: bytes
    request: ComputationRequest


class Withdrawn(Record, frozen=True):
    """A client closes its computation, or gives up its place in the queue."""

    cause: bytes
    computation: bytes


class ClientLeft(Record, frozen=True):
    """The connection to a client has ended."""

    cause: bytes
    orderly: bool
    """Whether it closed the connection in order."""


class NodeJoined(Record, frozen=True):
    """A node offers its servers, and reports the leases that it has given."""

    cause: bytes
    facts: NodeFacts
    free: int
    held: tuple[HeldLease, ...]


class NodeLeft(Record, frozen=True):
    """The connection to a node has ended."""

    cause: bytes
    orderly: bool
    """Whether it closed the connection in order."""


class Pulsed(Record, frozen=True):
    """A heartbeat of a node."""

    cause: bytes
    resources: Resources


class GrantGiven(Record, frozen=True):
    """A node has given servers."""

    cause: bytes
    computation: bytes
    servers: int
    free: int


class GrantRefused(Record, frozen=True):
    """A node has given no server."""

    cause: bytes
    computation: bytes
    held: tuple[tuple[str, int], ...]
    """The addresses and ports of the servers that other leases hold."""


class RoomReported(Record, frozen=True):
    """A node reports how many servers are free."""

    cause: bytes
    free: int


class FreedReported(Record, frozen=True):
    """A node reports that servers of a lease are free again."""

    cause: bytes
    freed: Freed


class CloseAsked(Record, frozen=True):
    """An admin request ends a computation."""

    cause: bytes
    computation: bytes
    reason: str


class RestAsked(Record, frozen=True):
    """An admin request suspends a node, or resumes it."""

    cause: bytes
    node_id: bytes
    rests: bool


class Stalled(Record, frozen=True):
    """This process has not run for a while."""


class Ticked(Record, frozen=True):
    """Time has passed."""


Event = (
    Submitted
    | Withdrawn
    | ClientLeft
    | NodeJoined
    | NodeLeft
    | Pulsed
    | GrantGiven
    | GrantRefused
    | RoomReported
    | FreedReported
    | CloseAsked
    | RestAsked
    | Stalled
    | Ticked
)


class Decision(Record, frozen=True):
    """The result of one event."""

    effects: tuple[Effect, ...] = ()
    queue_entry: QueueEntry | None = None
    """The queue entry of the submitted computation."""
    adopted: tuple[bytes, ...] = ()
    """The computations whose leases at a node that joined are this scheduler's."""


class LogEntry(Record, frozen=True):
    """One event that was handled."""

    now: float
    """Seconds, by the clock of the caller."""
    event: Event
    decision: Decision | None
    """None if the event was refused."""
