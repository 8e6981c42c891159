"""The terms of a lease: one class for the scheduler, the wire and the node."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .._records import Record

Seconds = Annotated[float, msgspec.Meta(ge=0)]
"""Seconds on the wire; infinity is allowed, NaN and negative values are refused."""


class QueueEntry(Record, frozen=True, order=True, array_like=True):
    """A place in the queue; its holder presents it to a restarted scheduler."""

    epoch: int
    """The incarnation of the scheduler that gave it; a later one is greater."""
    number: int
    """Counted from 1 in each epoch."""


class LeaseTerms(Record, frozen=True, array_like=True):
    """The terms of a lease, the same at the scheduler, on the wire and at the node."""

    computation: bytes
    client_id: bytes
    name: str
    queue_entry: QueueEntry
    key: bytes
    """The same key for all servers of the computation, so that they can connect to each other."""
    zombie_period: Seconds
    """Seconds after which an idle server is closed; 0 for never."""
    pulse_interval: Seconds
    """Seconds."""


class HeldLease(Record, frozen=True, array_like=True):
    """A lease that a node reports when it joins a scheduler."""

    terms: LeaseTerms
    servers: int
    scheduler_id: bytes
    """The id of the scheduler that is responsible for it."""
    shared: bool
    """Whether that scheduler is shared."""
    orphan: bool
    """Whether the node has lost that scheduler."""
