"""What the scheduler's decisions ask its shell to do: one value for each kind of effect.

`_scheduling` makes them, `_scheduler` carries them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from .._values import Status
    from ._facts import NodeFacts, Ticket


@attrs.frozen
class TellTurn:
    """Tell the client that its computation runs."""

    client_id: bytes
    computation: bytes
    zombie_period: float
    """Seconds; 0 for never."""


@attrs.frozen
class AskGrant:
    """Ask the node to give servers to a computation."""

    node_id: bytes
    computation: bytes
    client_id: bytes
    name: str
    ticket: Ticket
    key: bytes
    servers: int
    zombie_period: float
    pulse_interval: float


@attrs.frozen
class AskRevoke:
    """Ask the node to take the servers of a computation back."""

    node_id: bytes
    computation: bytes


@attrs.frozen
class TellLeased:
    """Tell the client that it has servers of a node."""

    client_id: bytes
    computation: bytes
    facts: NodeFacts
    key: bytes


@attrs.frozen
class TellDiscarded:
    """Tell the client that its computation is over."""

    client_id: bytes
    computation: bytes
    reason: str


@attrs.frozen
class TellRests:
    """Tell the client that a node takes no new coroutines, or takes them again."""

    client_id: bytes
    computation: bytes
    node_id: bytes
    rests: bool


@attrs.frozen
class ClaimOver:
    """A computation is over, or gone from the queue."""

    client_id: bytes
    computation: bytes
    ran: bool
    """Whether its turn had come."""


@attrs.frozen
class DropNode:
    """End the connection to a node that is taken for dead."""

    node_id: bytes


@attrs.frozen
class Happened:
    """Something that status messages tell of."""

    status: Status
    addr: str
    port: int
    """0 where the status is about a node."""
    computation: bytes | None
    """Whose business it is; None for everybody's."""
    client_id: bytes | None


Effect = TellTurn | AskGrant | AskRevoke | TellLeased | TellDiscarded | TellRests | ClaimOver | DropNode | Happened
