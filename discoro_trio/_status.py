"""The public values about a cluster: status events, node resources, and requests for nodes.

This module owns their fields. The scheduler, the node and the computation create them.
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
    """The arguments of the coroutine."""
    kwargs: dict[str, object]
    """The keyword arguments of the coroutine."""
    start_time: float
    """The time of its creation, in seconds since the epoch."""


@attrs.frozen
class NodeInfo:
    """The resources that a node reported with its last heartbeat."""

    addr: str
    """Its address."""
    name: str
    """Its name."""
    platform: str
    """Operating system and machine, as returned by `platform.platform()`."""
    cpus: int
    """Processors."""
    cpu_percent: float
    """The processor usage in percent, 0 to 100."""
    memory_total: int
    """The size of the memory in bytes."""
    memory_available: int
    """The available memory in bytes."""
    disk_total: int
    """The size, in bytes, of the file system that holds its working folder."""
    disk_available: int
    """The free bytes of that file system."""


@attrs.frozen
class DiscoroStatus:
    """One status message."""

    status: Status
    """What happened."""
    info: str | Location | CoroInfo
    """A node's address, the Location of a server or computation, or a CoroInfo."""


@attrs.frozen
class StatusLagged:
    """The subscriber was too far behind: the number of dropped events, and the current state."""

    missed: int
    """The number of events that were dropped."""
    snapshot: object
    """The current state, as returned by `status()`."""


@attrs.frozen
class Failure:
    """One failure of a supervised coroutine."""

    name: str
    """The coroutine's name."""
    time: float
    """The time of the failure, in seconds of Trio's clock."""
    error: BaseException
    """The error that the coroutine raised, or ServerLost."""


@attrs.frozen
class NodeAllocation:
    """A part of the cluster that a computation requests."""

    node: str = "*"
    """A pattern of node addresses or names, in the syntax of `fnmatch`."""
    platform: str = attrs.field(default="", kw_only=True)
    """A text that the node's platform contains."""
    cpus: int | None = attrs.field(default=None, kw_only=True)
    """The number of servers requested from each such node; None for all."""
    memory: int = attrs.field(default=0, kw_only=True)
    """The memory in bytes that must be available at the node."""
    disk: int = attrs.field(default=0, kw_only=True)
    """The disk space in bytes that must be available at the node."""

    def __attrs_post_init__(self) -> None:
        """Check the fields; values of other types, such as numpy's, become int and str."""
        object.__setattr__(self, "node", text("node", self.node))
        object.__setattr__(self, "platform", text("platform", self.platform))
        object.__setattr__(self, "cpus", optional_integer("cpus", self.cpus, least=1))
        for name in ("memory", "disk"):
            object.__setattr__(self, name, integer(name, getattr(self, name), least=0))
