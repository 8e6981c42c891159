"""The messages of scheduler, node, server and client that run computations.

This module owns the message types. Decisions are in `_scheduling` and `_holding`; coroutines and their messages have
frames of their own, in `_process`.
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
    """Empty for all servers of all nodes."""
    zombie_period: Seconds | None
    """Seconds."""
    pulse_interval: Seconds
    """Seconds."""
    queue_entry: QueueEntry | None
    """Its queue entry, if it comes back."""
    running: bool
    """Whether its turn had come already, if it comes back."""
    key: bytes
    """The key of its leases, if it comes back and has some."""
    owner: str = ""
    """The user, host and program of the client, as `user@host program`."""


class Queued(Control, frozen=True):
    """The computation is in the queue."""

    queue_entry: QueueEntry
    pulse_interval: Seconds
    """Seconds; the requested interval, limited to the scheduler's bounds."""
    demand_interval: Seconds = 0.0
    """Seconds between two `Demand`s; 0 if the scheduler does not need them."""


class AskWait(Control, frozen=True):
    """Ask what a computation waits for; answered by `WaitIs`."""

    computation: bytes


class WaitIs(Control, frozen=True):
    """The reason why a computation waits."""

    reason: str
    """A text; empty if it has servers."""


class Withdraw(Control, frozen=True):
    """The computation is over, or gives up its place in the queue."""

    computation: bytes


class Demand(Control, frozen=True):
    """How much work the client of a computation has, for a launcher that adapts the number of nodes."""

    computation: bytes
    jobs: int
    """Jobs that have not ended, waiting or running."""
    servers: int
    """The number of servers that it waits for; 0 for none."""


class StartedThere(Control, frozen=True):
    """The coroutines of a client at a server that does not answer; the client's reply to `ServerBlocked`."""

    computation: bytes
    server_id: bytes
    started: dict[int, tuple[str, str | None]]
    """Name and arguments, as text, by serial number; the latest ones. None: the arguments are not kept."""


class Skew(Control, frozen=True):
    """How nodes of a computation differ from its client, for the status."""

    computation: bytes
    lines: list[str]
    """One for each kind of difference."""


class AskNodes(Control, frozen=True):
    """Ask which nodes gave servers to the computation; answered by `NodesAre` once all nodes have answered."""

    computation: bytes


class AskStatus(Control, frozen=True):
    """Request the status; answered by `StatusIs`."""

    seen: int | None = None
    """To get the recent history too: `Recent.last` of the last answer, or 0."""


# --- scheduler to client


class StatusIs(Control, frozen=True):
    """The status."""

    tables: bytes
    """The tables, as `_tables` encodes them."""
    recent: Recent | None = None
    """The recent history, if it was requested."""


class NodesAre(Control, frozen=True):
    """The nodes that gave servers; a `Leased` is sent for each, too."""

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
    """A status event of a node or a server."""

    computation: bytes
    status: str
    """A name of `Status`."""
    addr: str
    port: int


class ServerBlocked(Control, frozen=True):
    """A server of a node of the computation does not answer; its client answers by `StartedThere`."""

    computation: bytes
    server_id: bytes


class Leased(Control, frozen=True):
    """The computation has servers of a node; the client sets them up through that node."""

    computation: bytes
    node_id: bytes
    node_name: str
    addr: str
    port: int
    key: bytes


# --- scheduler to node


class Grant(Control, frozen=True):
    """Give free servers to a computation; answered by `Granted` or `NotGranted`."""

    terms: LeaseTerms
    servers: int
    """How many; fewer are accepted, too."""
    shared: bool
    """Whether the scheduler is shared."""


class Granted(Control, frozen=True):
    """The servers are given."""

    servers: int
    free: int
    """The number of servers that are free now."""


class NotGranted(Control, frozen=True):
    """All servers are in use; `Room` follows when some are free."""

    held: list[tuple[str, int]]
    """The addresses and ports of the servers."""


class Revoke(Control, frozen=True):
    """Take the servers of a computation back."""

    computation: bytes


# --- node to scheduler


class NodeIs(Control, frozen=True):
    """A node joins with its servers and the leases there; answered by `Welcome`."""

    name: str
    addr: str
    port: int
    servers: int
    platform: str
    free: int
    held: list[HeldLease]


class Welcome(Control, frozen=True):
    """The scheduler accepts the node."""

    adopted: list[bytes]
    """The computations for whose leases there it is responsible."""
    pulse_interval: Seconds
    """Seconds between heartbeats."""
    shared: bool


class Blocked(msgspec.Struct, frozen=True, array_like=True):
    """A server that does not answer."""

    seconds: Seconds
    """The least number of seconds for which it has not answered."""
    stack: list[str]
    """The stack of its main thread, outermost frame first; empty if it could not be read."""


class Pulse(Control, frozen=True):
    """Heartbeat of a node: its resources, and what its servers use (`ServerVitals`). Answered by `PulseSeen`."""

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
    """The scheduler's answer to a heartbeat."""


class ServerSeen(Control, frozen=True):
    """A server of the node listens."""

    server_id: bytes
    name: str
    addr: str
    port: int


class FilesStay(Control, frozen=True):
    """The files of a server of the node are kept when it ends."""

    server_id: bytes
    folder: str
    """The folder, at the node."""


class ServerLeft(Control, frozen=True):
    """A server of the node has ended."""

    server_id: bytes
    wanted: bool
    """Whether its end was requested."""
    over: bool
    """Whether it ended because its computation is over."""
    reason: str
    """Why it ended, for display."""


class RunningCoro(msgspec.Struct, frozen=True, array_like=True):
    """A coroutine that runs."""

    serial: int
    name: str
    since: float
    """In seconds since the epoch."""
    starter: bytes
    args: str | None = None
    """Its arguments as text; None if there are too many coroutines, then they are fetched on request."""


class CoroProgress(msgspec.Struct, frozen=True, array_like=True):
    """The progress that a coroutine has reported."""

    serial: int
    done: float
    total: float | None
    text: str


class Report(Control, frozen=True):
    """The changes at a server since its last report."""

    submitted: int
    failed: int
    """Coroutines that have raised; like `submitted`, since the server began."""
    cancelled: int
    running: int
    started: list[RunningCoro]
    """Coroutines that run now and did not at the last report."""
    gone: list[int]
    """Coroutines that ran at the last report and do not run now; those in `ended` may be left out."""
    ended: list[EndedCoro]
    """Ended coroutines with details: all that were reported as running, and some of the others."""
    failures: list[FailureGroup]
    """The kinds of failures that have increased."""
    progress: list[CoroProgress]
    lines: list[OutputLine] = msgspec.field(default_factory=list)
    """The end of the server's output, in its last report."""


class ServerReport(Control, frozen=True):
    """A server's report, forwarded by its node to the scheduler."""

    computation: bytes
    server_id: bytes
    report: Report


class ServersFreed(Control, frozen=True):
    """Servers of a computation have been replaced and are free again."""

    computation: bytes
    servers: int
    over: str
    """A value of `_facts.Over`."""
    free: int
    """The number of servers that are free now."""


class Room(Control, frozen=True):
    """The number of servers that are free now."""

    free: int


# --- client to node


class Prepare(Control, frozen=True):
    """Set the leased servers up; answered by `Prepared` once the request is sent to all of them."""

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
    """Node to client: send bytes of a large component file; answered by `ComponentBytes`."""

    computation: bytes
    stream: int
    offset: int
    size: int


class ComponentBytes(BulkData, frozen=True):
    """Bytes of a large component file."""


class AskVersions(Control, frozen=True):
    """Ask for the versions of Python and of packages; answered by `VersionsAre`."""

    packages: list[str]
    """Names of distributions."""


class VersionsAre(Control, frozen=True):
    """The versions at a node."""

    python: str
    packages: dict[str, str]
    """Without packages that are not installed."""


class Prepared(Control, frozen=True):
    """The servers are being set up; for each, `ServerReady` or `ServerFailed` follows."""

    servers: int
    keeps_files: bool = True
    """Whether the node has a folder for the files of a computation that keeps its files."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A process that has a shared value, or will get it."""

    process_id: bytes
    addr: str
    port: int


class PutShared(Control, frozen=True):
    """Fetch a shared value and keep it for the servers of a lease; answered by `Done` when they can use it."""

    computation: bytes
    share: bytes
    size: int
    sources: list[Source]
    """Further sources besides the client, in the order in which to try them."""
    descriptor: int
    """The client's descriptor of the value, for nodes of the same machine."""


class DropShared(Control, frozen=True):
    """Drop a shared value; answered by `Done`."""

    computation: bytes
    share: bytes


class OpenShared(Control, frozen=True):
    """To servers: unpickle a shared value before the first job uses it."""

    share: bytes


class ForgetShared(Control, frozen=True):
    """To servers: a shared value was released."""

    share: bytes


class Release(Control, frozen=True):
    """Give the servers back; answered by `Done` when they have ended."""

    computation: bytes


class Replace(Control, frozen=True):
    """Kill a server and start another in its place; answered by `Done` when the old one is gone."""

    computation: bytes
    server_id: bytes
    reason: str


# --- client to server


class ServerEnded(Control, frozen=True):
    """Another server of the computation is lost; messages to its coroutines fail from now on."""

    server_id: bytes


# --- server to client, and back


class WatchMembers(Control, frozen=True):
    """Subscribe to the computation's servers; answered by `Members`, which is sent again after each change."""

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
    """The present nodes and servers of the computation."""

    computation: bytes
    name: str
    grace_period: float
    pulse_interval: float
    nodes: list[MemberNode]
    servers: list[MemberServer]


class ReplaceMember(Control, frozen=True):
    """Have a server killed and another started in its place; answered by `Done` when the old one is gone."""

    computation: bytes
    server_id: bytes
    reason: str


class ShareOfJob(Control, frozen=True):
    """Share a value of a job with all nodes; answered by `Done` when they have it. The server keeps it until then."""

    computation: bytes
    share: bytes
    size: int
    descriptor: int
    """The server's descriptor of the value, for a client on the same machine."""
    early: bool
    """Whether servers are to open it before the first job that uses it."""


class UnshareOfJob(Control, frozen=True):
    """Free a value that a job has shared; answered by `Done`."""

    computation: bytes
    share: bytes


# --- node to client


class ServerReady(Control, frozen=True):
    """A server is set up and takes work."""

    computation: bytes
    server_id: bytes
    node_id: bytes
    slot: int
    """The number of its server slot; a replacement has the same number."""
    addr: str
    port: int


class ServerFailed(Control, frozen=True):
    """A server could not be set up and is not used; if `node_setup` failed, no server of its node is used."""

    computation: bytes
    server_id: bytes
    node_id: bytes
    slot: int
    name: str
    """The server's name, for display."""
    addr: str
    port: int
    stage: str
    """The stage that failed: `components`, `node_setup` or `server_setup`."""
    error: list[bytes]
    """The packed error and its buffers."""


class ServerWrote(Control, frozen=True):
    """A server has written to its standard output or standard error, bypassing Python's streams."""

    computation: bytes
    server_id: bytes
    addr: str
    port: int
    stream: int
    """1 or 2."""
    data: bytes


class LeaseEnding(Control, frozen=True):
    """The servers of a node will end soon; the client starts nothing more there. Answered by `Done`."""

    computation: bytes
    node_id: bytes
    reason: str
    finishes: bool
    """Whether running coroutines may finish; jobs that may run again elsewhere are moved at once."""


class LeaseEnded(Control, frozen=True):
    """All servers of a node have ended, and the node gives the computation no new ones."""

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
    """Whether it closed because it was idle; it started no coroutine since."""


# --- node and its server


class ServerUp(Control, frozen=True):
    """The server listens."""

    addr: str
    port: int


class Begin(Control, frozen=True):
    """Start to work for a computation; answered by `Done` or `SetUpFailed`."""

    computation: bytes
    client_id: bytes
    key: bytes
    package: bytes
    """The components, without the files."""
    folder: str
    """The folder to which the node wrote the files."""
    node_setup: list[bytes]
    """Empty except for the one server of a node that runs it."""
    server_setup: list[bytes]
    threads: int
    forward_output: bool
    pulse_interval: float
    """Seconds between the heartbeats of the node to this server."""


class SetUpFailed(Control, frozen=True):
    """The server could not be set up."""

    stage: str
    error: list[bytes]


class AreYouThere(Control, frozen=True):
    """Node to server, or client to node: answered by `Done` once the main thread there is free."""


class Finish(Control, frozen=True):
    """Cancel all coroutines; answered by `Done` when they have ended and their starters have the outcomes.

    The coroutines that this cancels are lost with the server.
    """

    reason: str
    again: bool
    """Whether jobs may run again elsewhere; then errors of their clean-up are logged, otherwise they are outcomes."""


class CloseIfIdle(Control, frozen=True):
    """Refuse new coroutines if none runs; answered by `Done` or `StillBusy`."""


class StillBusy(Control, frozen=True):
    """A coroutine runs, so the server stays open."""
