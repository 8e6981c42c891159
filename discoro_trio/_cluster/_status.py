"""How things stand: frozen tables of nodes, servers, computations and coroutines, as `status()` gives them.

This module owns their fields. What fills them is with the scheduler (`_observed_state`) and, for one computation, with
the client; how they look as text or JSON is with `_tables`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .._process import Coro
    from .._status import NodeInfo
    from .._values import Location


@attrs.frozen(kw_only=True)
class Progress:
    """What a coroutine has reported of itself."""

    done: float
    """What is done, in units of its choice."""
    total: float | None
    """What there is to do; None if it does not say."""
    text: str
    """What it is doing."""


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
    """Its arguments as text; None if they were not reported."""


@attrs.frozen(kw_only=True)
class ServerVitals:
    """What a server's process uses, as its node measured it last."""

    pid: int
    """The number of the process on its machine."""
    cpu_percent: float
    """Of one processor, so that it is over 100 where threads use several."""
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
    """Coroutines that were started there."""
    done: int
    """Those of them that have ended."""
    running: int
    coroutines: tuple[CoroStatus, ...]
    """Those that run and have been reported."""
    reported: float
    """Seconds since its last report; it reports when something has changed."""
    unresponsive: float = 0.0
    """Seconds for which no coroutine there has reached a checkpoint, so that it answers nothing; 0 if it answers. It
    is told with the node's pulses."""
    vitals: ServerVitals | None = None
    """As its node's last pulse said; None before the first, and in a table that a computation gives of itself."""
    failed: int = 0
    """Those of the ended that raised."""
    id: str = ""
    """That of its process, in hexadecimal; a replacement may have the same Location and has another id."""
    stack: tuple[str, ...] = ()
    """Where the thread of an unresponsive server is, the outermost frame first."""
    files: str = ""
    """The folder at its node where its files stay (`cleanup=False`); empty if they are removed when it ends."""


@attrs.frozen(kw_only=True)
class NodeStatus:
    """A node."""

    id: str
    """That of its process, in hexadecimal; nodes may share an address."""
    addr: str
    name: str
    location: Location
    platform: str
    suspended: bool
    """Whether it takes no new coroutines, since somebody wanted that."""
    servers: int
    """Its places for servers."""
    free: int
    """Those that nobody has."""
    submitted: int
    """Coroutines that were started at its servers since it joined; in a computation's own table, at those it has."""
    done: int
    """Those of them that have ended, or were lost with their server."""
    running: int
    silence: float
    """Seconds since its last sign of life."""
    info: NodeInfo | None
    """Processors, memory and disk, as its last pulse said; None before the first."""
    failed: int = 0
    """Those of the ended that raised, or were lost with their server."""


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
    """0 if it runs, else its place in the queue, from 1."""
    nodes: int
    servers: int
    """The servers that it has."""
    zombie_period: float
    """Seconds after which its idle servers are closed; 0 for never."""
    submitted: int = 0
    """Coroutines that it has started."""
    done: int = 0
    """Those of them that have ended."""
    failed: int = 0
    """Those of the ended that raised, or were lost with their server."""
    running: int = 0
    owner: str = ""
    """The user, host and program of its client, as `user@host program`; empty while the client has not come back."""
    why: str = ""
    """What it waits for, in words; empty if it runs."""
    queued: float | None = None
    """When it was queued, in seconds since the epoch; None if that is not known."""


@attrs.frozen(kw_only=True)
class ClusterStatus:
    """All of it at one moment."""

    time: float
    """In seconds since the epoch."""
    scheduler: Location | None
    """Where the scheduler listens; None in a table that a computation gives of itself."""
    nodes: tuple[NodeStatus, ...]
    servers: tuple[ServerStatus, ...]
    computations: tuple[ComputationStatus, ...]
    """Those that run first, then those that wait, in the order of the queue."""

    @property
    def submitted(self) -> int:
        """Coroutines that were started at these nodes."""
        return sum(node.submitted for node in self.nodes)

    @property
    def done(self) -> int:
        """Those of them that have ended."""
        return sum(node.done for node in self.nodes)

    @property
    def failed(self) -> int:
        """Those of the ended that raised, or were lost with their server."""
        return sum(node.failed for node in self.nodes)

    @property
    def running(self) -> int:
        """Those of them that run."""
        return sum(node.running for node in self.nodes)
