"""Facts about nodes and computations that scheduler and nodes share: values without behaviour.

`_scheduling` (at the scheduler) and `_holding` (at each node) decide by them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from .._records import Record
from ._allocations import Allocations

if TYPE_CHECKING:
    from ._lease_terms import QueueEntry


class NodeFacts(Record, frozen=True):
    """What a node reports about itself when it joins."""

    node_id: bytes
    name: str
    addr: str
    port: int
    servers: int
    """Its server slots, each for one server at a time."""
    platform: str


class Resources(Record, frozen=True):
    """The resources of a node besides servers, in bytes."""

    memory: int
    disk: int


class ComputationRequest(Record, frozen=True):
    """A computation as its client submits it."""

    computation: bytes
    client_id: bytes
    name: str
    wishes: Allocations = msgspec.field(default_factory=Allocations)
    zombie_period: float | None = None
    """Seconds after which an idle server is closed; 0 or None for never. A shared scheduler has its own."""
    pulse_interval: float = 10.0
    """Seconds."""
    queue_entry: QueueEntry | None = None
    """Its queue entry, if it comes back."""
    running: bool = False
    """Whether its turn had come already, if it comes back."""
    key: bytes = b""
    """The key of its leases, if it comes back and has some."""
    owner: str = ""
    """The user, host and program of its client, for display."""


class Over(enum.Enum):
    """Why servers of a lease are free again."""

    RELEASED = "released"
    """The client released them."""
    IDLE = "idle"
    """They were idle for the zombie period."""
    REVOKED = "revoked"
    """The scheduler took them back."""
    CLIENT = "client"
    """The client is gone, or never connected."""
    STOPPED = "stopped"
    """The node stops."""
    DRAINED = "drained"
    """The node is drained."""


class Freed(Record, frozen=True):
    """Servers of a lease that have been replaced and are free again."""

    computation: bytes
    servers: int
    """How many; the lease has ended with its last server."""
    over: Over
    """Why."""
    free: int
    """The number of servers that are free at the node now."""
