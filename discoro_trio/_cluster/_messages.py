"""What scheduler, node, server and client say to each other to run computations.

This module owns the vocabulary. Who decides what is with `_scheduling` and `_holding`; coroutines and their messages
have frames of their own, in `_process`.
"""

from __future__ import annotations

import msgspec

from .._link import BulkData
from .._process import EndedCoro, FailureGroup, OutputLine
from .._wire import Control
from ._history import Recent
from ._lease_terms import HeldLease, LeaseTerms, QueueEntry, Seconds

# --- client to scheduler


class Allocation(msgspec.Struct, frozen=True, array_like=True):
    """One of the node allocations that a computation asks for."""

    node: str
    platform: str
    cpus: int | None
    memory: int
    disk: int


class Submit(Control, frozen=True):
    """Queue a computation; answered by `Queued` at once, and by `TurnCame` when it runs."""

    computation: bytes
    name: str
    wishes: list[Allocation]
    """None of them: all servers of all nodes."""
    zombie_period: Seconds | None
    """Seconds."""
    pulse_interval: Seconds
    """Seconds."""
    queue_entry: QueueEntry | None
    """Its place, if it comes back."""
    running: bool
    """Whether its turn had come already, if it comes back."""
    key: bytes
    """The key of its leases, if it comes back and has some."""
    owner: str = ""
    """The user, host and program of the client, as `user@host program`."""


class Queued(Control, frozen=True):
    """It is in the queue."""

    queue_entry: QueueEntry
    pulse_interval: Seconds
    """Seconds; what was asked for, within the scheduler's bounds."""


class AskWait(Control, frozen=True):
    """What does a computation wait for? Answered by `WaitIs`."""

    computation: bytes


class WaitIs(Control, frozen=True):
    """What a computation waits for."""

    reason: str
    """In words; empty if it has servers."""


class Withdraw(Control, frozen=True):
    """The computation is over, or does not want to wait any more."""

    computation: bytes


class AskNodes(Control, frozen=True):
    """Which nodes have given servers to the computation? Answered by `NodesAre`, once all that were asked have said."""

    computation: bytes


class AskStatus(Control, frozen=True):
    """How do things stand? Answered by `StatusIs`."""

    seen: int | None = None
    """`Recent.last` of the last answer, or 0, where what has ended since then is wanted, too."""


# --- scheduler to client


class StatusIs(Control, frozen=True):
    """How things stand."""

    tables: bytes
    """As `_tables` writes them."""
    recent: Recent | None = None
    """What has ended, if that was asked for."""


class NodesAre(Control, frozen=True):
    """These have given servers, and each is told of by `Leased`, too."""

    nodes: list[bytes]


class TurnCame(Control, frozen=True):
    """The computation runs now; its servers follow."""

    computation: bytes
    zombie_period: Seconds
    """Seconds after which an idle server is closed; 0 for never."""


class Discarded(Control, frozen=True):
    """The scheduler has ended the computation."""

    computation: bytes
    reason: str


class News(Control, frozen=True):
    """Something happened to a node or a server that status messages tell of."""

    computation: bytes
    status: str
    """A name of `Status`."""
    addr: str
    port: int


class Leased(Control, frozen=True):
    """Servers of a node belong to the computation; the client sets them up through that node."""

    computation: bytes
    node_id: bytes
    node_name: str
    addr: str
    port: int
    key: bytes


# --- scheduler to node


class Grant(Control, frozen=True):
    """Give servers to a computation, unless they are another one's; answered by `Granted` or `NotGranted`."""

    terms: LeaseTerms
    servers: int
    """How many; fewer are taken, too."""
    shared: bool
    """Whether the scheduler is a shared one."""


class Granted(Control, frozen=True):
    """They are given."""

    servers: int
    free: int
    """All that nobody has."""


class NotGranted(Control, frozen=True):
    """All servers are held; `Room` follows when some are free."""

    held: list[tuple[str, int]]
    """Where they listen."""


class Revoke(Control, frozen=True):
    """Take the servers of a computation back."""

    computation: bytes


# --- node to scheduler


class NodeIs(Control, frozen=True):
    """A node, with what it has and what is held there; answered by `Welcome`."""

    name: str
    addr: str
    port: int
    servers: int
    platform: str
    free: int
    held: list[HeldLease]


class Welcome(Control, frozen=True):
    """The scheduler knows the node."""

    adopted: list[bytes]
    """The computations whose leases there it answers for."""
    pulse_interval: Seconds
    """Seconds between pulses."""
    shared: bool


class Blocked(msgspec.Struct, frozen=True, array_like=True):
    """A server that does not answer."""

    seconds: Seconds
    """For how long at least."""
    stack: list[str]
    """Where its thread is, the outermost frame first; empty if that could not be found out."""


class Pulse(Control, frozen=True):
    """The node is alive; what it has, and what its servers use, as in `ServerVitals`. Answered by `PulseSeen`."""

    cpus: int
    cpu_percent: float
    memory_total: int
    memory_available: int
    disk_total: int
    disk_available: int
    blocked: dict[bytes, Blocked]
    """The servers that do not answer their node; all others do."""
    used: dict[bytes, tuple[int, float, int]]


class PulseSeen(Control, frozen=True):
    """The scheduler is alive."""


class ServerSeen(Control, frozen=True):
    """A server of the node listens."""

    server_id: bytes
    name: str
    addr: str
    port: int


class FilesStay(Control, frozen=True):
    """The files of a server of the node stay when it has ended."""

    server_id: bytes
    folder: str
    """Where, at the node."""


class ServerLeft(Control, frozen=True):
    """A server of the node has ended."""

    server_id: bytes
    wanted: bool
    """Whether somebody had asked for it."""
    over: bool
    """Whether that was because its computation is over."""
    reason: str
    """Why it ended, for people."""


class RunningCoro(msgspec.Struct, frozen=True, array_like=True):
    """A coroutine that runs."""

    serial: int
    name: str
    since: float
    """In seconds since the epoch."""
    starter: bytes
    args: str | None = None
    """Its arguments as text; None for those of very many, which are fetched when somebody looks."""


class CoroProgress(msgspec.Struct, frozen=True, array_like=True):
    """What a coroutine has reported of itself."""

    serial: int
    done: float
    total: float | None
    text: str


class Report(Control, frozen=True):
    """What has changed at a server since its last report."""

    submitted: int
    failed: int
    """Coroutines that have raised; like `submitted`, since the server began."""
    cancelled: int
    running: int
    started: list[RunningCoro]
    """Those that run now and did not then."""
    gone: list[int]
    """Those that ran then and do not now, and are not in `ended`."""
    ended: list[EndedCoro]
    """Those that have ended and are described: the ones that were reported as running, and some of the others."""
    failures: list[FailureGroup]
    """The kinds of failures that have grown."""
    progress: list[CoroProgress]
    lines: list[OutputLine] = msgspec.field(default_factory=list)
    """With its last report, the end of the server's output."""


class ServerReport(Control, frozen=True):
    """A server's report, from its node to the scheduler."""

    computation: bytes
    server_id: bytes
    report: Report


class ServersFreed(Control, frozen=True):
    """Servers of a computation can be given again; they are fresh."""

    computation: bytes
    servers: int
    over: str
    """A value of `_facts.Over`."""
    free: int
    """All that nobody has."""


class Room(Control, frozen=True):
    """So many servers are held by nobody now."""

    free: int


# --- client to node


class Prepare(Control, frozen=True):
    """Set the leased servers up; answered by `Prepared` once all of them are told."""

    computation: bytes
    package: bytes
    node_setup: list[bytes]
    """The pickled function and its buffers; empty for none."""
    server_setup: list[bytes]
    """As `node_setup`."""
    grace_period: Seconds
    threads: int
    forward_output: bool
    cleanup: bool


class ReadComponent(Control, frozen=True):
    """From a node: send bytes of a large file among the components; answered by `ComponentBytes`."""

    computation: bytes
    stream: int
    offset: int
    size: int


class ComponentBytes(BulkData, frozen=True):
    """Bytes of a large file among the components."""


class Prepared(Control, frozen=True):
    """They are told; for each, `ServerReady` or `ServerFailed` follows."""

    servers: int
    keeps_files: bool = True
    """Whether the node has a place for the files of a computation that wants them to stay."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A process that has a shared value, or will have it."""

    process_id: bytes
    addr: str
    port: int


class PutShared(Control, frozen=True):
    """Get a shared value and keep it for the servers of a lease; answered by `Done` when they can use it."""

    computation: bytes
    share: bytes
    size: int
    sources: list[Source]
    """Where to get it, beside the client, in the order in which to try."""
    descriptor: int
    """What the client has it open as, for nodes of the same machine."""


class DropShared(Control, frozen=True):
    """Keep a shared value no more; answered by `Done`."""

    computation: bytes
    share: bytes


class ForgetShared(Control, frozen=True):
    """To servers: a shared value was released."""

    share: bytes


class Release(Control, frozen=True):
    """The client is through; answered by `Done` when the servers have ended."""

    computation: bytes


class Replace(Control, frozen=True):
    """End a server by force and start another in its place; answered by `Done` when it is gone."""

    computation: bytes
    server_id: bytes
    reason: str


# --- client to server


class ServerEnded(Control, frozen=True):
    """Another server of the computation is lost; messages to its coroutines fail from now on."""

    server_id: bytes


# --- server to client, and back


class WatchMembers(Control, frozen=True):
    """Which servers does the computation have? Answered by `Members`, and told again when that changes."""

    computation: bytes


class MemberNode(msgspec.Struct, frozen=True):
    """A node of the computation."""

    node_id: bytes
    name: str
    addr: str
    port: int


class MemberServer(msgspec.Struct, frozen=True):
    """A server of the computation that takes coroutines."""

    server_id: bytes
    node_id: bytes
    slot: int
    addr: str
    port: int


class Members(Control, frozen=True):
    """What there is now."""

    computation: bytes
    name: str
    grace_period: float
    pulse_interval: float
    nodes: list[MemberNode]
    servers: list[MemberServer]


class ReplaceMember(Control, frozen=True):
    """Have a server ended by force, and another started in its place; answered by `Done` when it is gone."""

    computation: bytes
    server_id: bytes
    reason: str


# --- node to client


class ServerReady(Control, frozen=True):
    """A server is set up and takes work."""

    computation: bytes
    server_id: bytes
    node_id: bytes
    slot: int
    """Which of the node's servers it is; a replacement has the same number."""
    addr: str
    port: int


class ServerFailed(Control, frozen=True):
    """A server could not be set up, and is not used; if `node_setup` failed, neither are the others of its node."""

    computation: bytes
    server_id: bytes
    node_id: bytes
    slot: int
    name: str
    """The server's name, for people."""
    addr: str
    port: int
    stage: str
    """What failed: `components`, `node_setup` or `server_setup`."""
    error: list[bytes]
    """The packed error and its buffers."""


class ServerWrote(Control, frozen=True):
    """A server has written to its standard output or standard error, past Python's own streams."""

    computation: bytes
    server_id: bytes
    addr: str
    port: int
    stream: int
    """1 or 2."""
    data: bytes


class LeaseEnding(Control, frozen=True):
    """The servers of a node are about to end; the client starts nothing more there. Answered by `Done`."""

    computation: bytes
    node_id: bytes
    reason: str
    finishes: bool
    """Whether what runs may finish; jobs that may run again elsewhere do so at once."""


class LeaseEnded(Control, frozen=True):
    """All servers of a node have ended, and the node gives the computation no others."""

    computation: bytes
    node_id: bytes


class ServerGone(Control, frozen=True):
    """A server has ended."""

    computation: bytes
    server_id: bytes
    addr: str
    port: int
    exitcode: int | None
    signal: int | None
    stderr_tail: str
    reason: str
    idle: bool
    """Whether it closed because nothing ran there; it began nothing since."""


# --- node and its server


class ServerUp(Control, frozen=True):
    """The server listens."""

    addr: str
    port: int


class Begin(Control, frozen=True):
    """Belong to a computation; answered by `Done` or `SetUpFailed`."""

    computation: bytes
    client_id: bytes
    key: bytes
    package: bytes
    """The components, without the files."""
    folder: str
    """Where the node wrote the files."""
    node_setup: list[bytes]
    """Only for the one server of a node that runs it."""
    server_setup: list[bytes]
    threads: int
    forward_output: bool
    pulse_interval: float
    """Seconds between the signs of life of the node to this server."""


class SetUpFailed(Control, frozen=True):
    """The server could not be set up."""

    stage: str
    error: list[bytes]


class AreYouThere(Control, frozen=True):
    """A node asks its server, or a client its node; answered by `Done` once the thread there is free."""


class Finish(Control, frozen=True):
    """Cancel all coroutines; answered by `Done` when they have ended and their starters have what they gave.

    What this cancels is lost with the server.
    """

    reason: str
    again: bool
    """Whether it may run again elsewhere; then errors of its clean-up are logged, and otherwise they are outcomes."""


class CloseIfIdle(Control, frozen=True):
    """Take no more work if nothing runs; answered by `Done`, or by `StillBusy`."""


class StillBusy(Control, frozen=True):
    """Something runs; the server goes on."""
