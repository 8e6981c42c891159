"""The effects of the scheduler's decisions: one class for each kind.

`_scheduling` makes them; `_scheduler` carries them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._records import Record

if TYPE_CHECKING:
    from ..._status import Status
    from .._facts import NodeFacts
    from .._lease_terms import LeaseTerms


class TellTurn(Record, frozen=True):
    """Notify the client that its computation runs."""

    client_id: bytes
    computation: bytes
    zombie_period: float
    """Seconds; 0 for never."""


class AskGrant(Record, frozen=True):
    """Ask the node to grant servers to a computation."""

    node_id: bytes
    terms: LeaseTerms
    servers: int


class AskRevoke(Record, frozen=True):
    """Ask the node to take back the servers of a computation."""

    node_id: bytes
    computation: bytes


class TellLeased(Record, frozen=True):
    """Notify the client that it has servers of a node."""

    client_id: bytes
    computation: bytes
    facts: NodeFacts
    key: bytes


class TellDiscarded(Record, frozen=True):
    """Notify the client that its computation is over."""

    client_id: bytes
    computation: bytes
    reason: str


class TellRests(Record, frozen=True):
    """Notify the client that a node takes no new coroutines, or takes them again."""

    client_id: bytes
    computation: bytes
    node_id: bytes
    rests: bool


class ClaimOver(Record, frozen=True):
    """A computation is over, or has left the queue."""

    client_id: bytes
    computation: bytes
    ran: bool
    """Whether its turn had come."""


class DropNode(Record, frozen=True):
    """Close the connection to a node that is considered dead."""

    node_id: bytes


class Happened(Record, frozen=True):
    """An event that status messages report."""

    status: Status
    addr: str
    port: int
    """0 if the status is about a node."""
    computation: bytes | None
    """The computation that the event concerns; None if it concerns all."""
    client_id: bytes | None


Effect = TellTurn | AskGrant | AskRevoke | TellLeased | TellDiscarded | TellRests | ClaimOver | DropNode | Happened
