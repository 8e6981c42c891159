"""The status: frozen tables of nodes, servers, computations and coroutines, as `status()` returns them.

This module owns their fields. The scheduler (`_observed_state`) fills them, and the client does for its own
computation; `_tables` formats them as text or JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .._process import Coro
    from .._status import NodeInfo
    from .._values import Location
    from ._launcher import LaunchedNode


@attrs.frozen(kw_only=True)
class Progress:
    """The progress that a coroutine has reported."""

    done: float
    """The amount of work done, in units of the coroutine's choice."""
    total: float | None
    """The total amount of work; None if it is not reported."""
    text: str
    """A text that describes the present step."""


@attrs.frozen(kw_only=True)
class CoroStatus:
    """A running coroutine."""

    coro: Coro[Any]
    """Its handle."""
    name: str
    start_time: float
    """When it was started, in seconds since the epoch."""
    age: float
    """Seconds since then."""
    progress: Progress | None
    """None if it has reported nothing."""
    args: str | None = None
    """Its arguments as text; None if they are not reported."""


@attrs.frozen(kw_only=True)
class ServerVitals:
    """The resources that a server's process uses, as its node last measured them."""

    pid: int
    """The process id on its machine."""
    cpu_percent: float
    """Percent of one processor; over 100 if threads use several."""
    memory: int
    """Bytes in physical memory."""


@attrs.frozen(kw_only=True)
class ServerStatus:
    """A server."""

    location: Location
    name: str
    node: str
    """The address of its node."""
    node_id: str
    """The `id` of its node."""
    computation: str
    """The id of the computation that it works for; empty for none."""
    submitted: int
    """The number of coroutines that were started there."""
    done: int
    """How many of them have ended."""
    running: int
    coroutines: tuple[CoroStatus, ...]
    """The running coroutines that have been reported."""
    reported: float
    """Seconds since its last report; it reports changes only."""
    unresponsive: float = 0.0
    """Seconds for which no coroutine there has reached a checkpoint, so that it does not answer; 0 if it answers. It
    is updated by the node's heartbeats."""
    vitals: ServerVitals | None = None
    """From its node's last heartbeat; None before the first, and in a computation's own table."""
    failed: int = 0
    """How many of the ended ones raised."""
    id: str = ""
    """The id of its process, in hexadecimal; a replacement may have the same Location but has another id."""
    stack: tuple[str, ...] = ()
    """The stack of an unresponsive server's main thread, outermost frame first."""
    files: str = ""
    """The folder at its node where its files are kept (`cleanup=False`); empty if they are removed when it ends."""


@attrs.frozen(kw_only=True)
class NodeStatus:
    """A node."""

    id: str
    """The id of its process, in hexadecimal; nodes may share an address."""
    addr: str
    name: str
    location: Location
    platform: str
    suspended: bool
    """Whether it is suspended, so that it takes no new coroutines."""
    servers: int
    """The number of its server slots."""
    free: int
    """The number of free server slots."""
    submitted: int
    """Coroutines that were started at its servers since it joined, or in a computation's own table at its servers."""
    done: int
    """How many of them have ended, or were lost with their server."""
    running: int
    silence: float
    """Seconds since its last heartbeat."""
    info: NodeInfo | None
    """Processors, memory and disk, from its last heartbeat; None before the first."""
    failed: int = 0
    """How many of the ended ones raised, or were lost with their server."""


@attrs.frozen(kw_only=True)
class ComputationStatus:
    """A computation that runs or waits."""

    id: str
    name: str
    client: Location
    """Where its client listens."""
    state: str
    """`running`, `waiting`, or `detached` if it runs and its client cannot be reached."""
    place: int
    """0 if it runs, otherwise its place in the queue, from 1."""
    nodes: int
    servers: int
    """The servers that it has."""
    zombie_period: float
    """Seconds after which its idle servers are closed; 0 for never."""
    submitted: int = 0
    """The number of coroutines that it has started."""
    done: int = 0
    """How many of them have ended."""
    failed: int = 0
    """How many of the ended ones raised, or were lost with their server."""
    running: int = 0
    owner: str = ""
    """The user, host and program of its client, as `user@host program`; empty until the client comes back."""
    why: str = ""
    """A text that describes what it waits for; empty if it runs."""
    skew: tuple[str, ...] = ()
    """How nodes differ from its client in the versions of Python and of the packages that it imports."""
    queued: float | None = None
    """When it was queued, in seconds since the epoch; None if that is not known."""
    began: float | None = None
    """When its turn came, in seconds since the epoch; None if it waits, or began before this scheduler."""


@attrs.frozen(kw_only=True)
class ClusterStatus:
    """The status of a cluster at one moment."""

    time: float
    """In seconds since the epoch."""
    scheduler: Location | None
    """Where the scheduler listens; None in a computation's own table."""
    nodes: tuple[NodeStatus, ...]
    servers: tuple[ServerStatus, ...]
    computations: tuple[ComputationStatus, ...]
    """The running computations, then the waiting ones in the order of the queue."""
    launched: tuple[LaunchedNode, ...] = ()
    """The nodes of the scheduler's launcher."""
    scaling: str = ""
    """Why the launcher has as many nodes as it has; empty if the number is fixed."""

    @property
    def submitted(self) -> int:
        """The number of coroutines that were started at these nodes."""
        return sum(node.submitted for node in self.nodes)

    @property
    def done(self) -> int:
        """How many of them have ended."""
        return sum(node.done for node in self.nodes)

    @property
    def failed(self) -> int:
        """How many of the ended ones raised, or were lost with their server."""
        return sum(node.failed for node in self.nodes)

    @property
    def running(self) -> int:
        """How many of them run."""
        return sum(node.running for node in self.nodes)
