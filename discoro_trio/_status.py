"""The public values about a cluster: what happens there, what its nodes have, and what is asked of them.

This module owns their fields. Who makes them and when is with the scheduler, the node and the computation.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import attrs

from ._arguments import integer, optional_integer, text

if TYPE_CHECKING:
    from ._process import Coro
    from ._values import Location


class Status(enum.Enum):
    """What happened to a node, a server, a coroutine or a computation."""

    NodeDiscovered = "NodeDiscovered"
    NodeInitialized = "NodeInitialized"
    NodeClosed = "NodeClosed"
    NodeIgnore = "NodeIgnore"
    NodeDisconnected = "NodeDisconnected"
    ServerDiscovered = "ServerDiscovered"
    ServerInitialized = "ServerInitialized"
    ServerClosed = "ServerClosed"
    ServerIgnore = "ServerIgnore"
    ServerDisconnected = "ServerDisconnected"
    CoroCreated = "CoroCreated"
    ComputationScheduled = "ComputationScheduled"
    ComputationClosed = "ComputationClosed"


@attrs.frozen
class CoroInfo:
    """A coroutine that was created."""

    coro: Coro[Any]
    """Its handle."""
    args: tuple[object, ...]
    """The arguments it was given."""
    kwargs: dict[str, object]
    """The keyword arguments it was given."""
    start_time: float
    """When it was created, in seconds since the epoch."""


@attrs.frozen
class NodeInfo:
    """What a node said of itself with its last pulse."""

    addr: str
    """Its address."""
    name: str
    """Its name."""
    platform: str
    """Operating system and machine, as `platform.platform()` gives them."""
    cpus: int
    """Processors."""
    cpu_percent: float
    """The part of its processors in use, 0 to 100."""
    memory_total: int
    """Bytes of memory."""
    memory_available: int
    """Bytes of memory that can still be used."""
    disk_total: int
    """Bytes of the file system that holds its working folder."""
    disk_available: int
    """Bytes of it that can still be used."""


@attrs.frozen
class DiscoroStatus:
    """One status message."""

    status: Status
    """What happened."""
    info: str | Location | CoroInfo
    """A node's address, the Location of a server or computation, or a CoroInfo."""


@attrs.frozen
class StatusLagged:
    """The subscriber was too far behind: what it missed, and how things stand."""

    missed: int
    """The number of events that were dropped."""
    snapshot: object
    """The state at this moment, as `status()` gives it."""


@attrs.frozen
class Failure:
    """One failure of a supervised coroutine."""

    name: str
    """The coroutine's name."""
    time: float
    """When it failed, in seconds of Trio's clock."""
    error: BaseException
    """What it raised, or ServerLost."""


@attrs.frozen
class NodeAllocation:
    """A part of the cluster that a computation asks for."""

    node: str = "*"
    """A pattern of node addresses or names, as `fnmatch` reads it."""
    platform: str = attrs.field(default="", kw_only=True)
    """A text that the node's platform contains."""
    cpus: int | None = attrs.field(default=None, kw_only=True)
    """The number of servers wanted of each such node; None for all."""
    memory: int = attrs.field(default=0, kw_only=True)
    """The bytes of memory that must be available there."""
    disk: int = attrs.field(default=0, kw_only=True)
    """The bytes of disk that must be available there."""

    def __attrs_post_init__(self) -> None:
        """Check the fields; integers of other types, such as numpy's, become ints."""
        text("node", self.node)
        text("platform", self.platform)
        object.__setattr__(self, "cpus", optional_integer("cpus", self.cpus, least=1))
        for name in ("memory", "disk"):
            object.__setattr__(self, name, integer(name, getattr(self, name), least=0))
