"""One scheduled computation, from the queue to its close: what is started there, and how it ends.

What users call is `Computation`; how nodes and servers come and go is with `Membership`, and where a coroutine goes
with `Topology`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from .._cluster import NodeRests, messages
from .._errors import ComputationClosed, DiscoroError
from .._process import lose_all
from .._records import Record
from .._status import Status
from ._maintenance import rest_node
from ._membership import Membership
from ._output import Display
from ._refused_starts import RefusedStarts
from ._server_directory import ServerDirectory
from ._status import tell_created
from ._topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._cluster import Publisher
    from .._link import Link
    from .._process import Call, Coro, OutcomeStore, Process, Submission, TaskDumps
    from .._shipping import Shipped
    from .._values import Location
    from .._wire import Control
    from ._journal import Journal
    from ._load_balancer import LoadBalancer
    from ._server import LeasedServer
    from ._topology import LeasedNode

logger = logging.getLogger(__name__)


class SetUp(Record, frozen=True):
    """What every node of a computation is told."""

    computation: bytes
    """The computation's id."""
    name: str
    """Its name, for people."""
    package: bytes
    """Its components."""
    shipped: Shipped
    """What of them goes by name."""
    grace_period: float
    """Seconds for clean-up."""
    pulse_interval: float
    """Seconds between signs of life."""
    threads: int
    """Plain functions that run at once on a server."""
    forward_output: bool
    """Whether output comes here."""
    cleanup: bool
    """Whether files are removed at the end."""
    node_setup: list[bytes]
    """The pickled function that one server of each node runs, and its buffers; empty for none."""
    server_setup: list[bytes]
    """The pickled function that each server runs, and its buffers; empty for none."""
    largest: tuple[str, int] = "", 0
    """Path and bytes of the largest file among its components."""

    def prepare(self) -> messages.Prepare:
        """Make the request that tells a node."""
        return messages.Prepare(
            self.computation,
            self.package,
            self.node_setup,
            self.server_setup,
            self.grace_period,
            self.threads,
            self.forward_output,
            self.cleanup,
        )


class Session:
    """A computation that is queued or runs.

    Attributes:
        set_up: What its nodes are told.
        timeout: Seconds for connecting, a handshake, or the reply to a request.
        places: Its nodes and servers.
        members: How they come and go.
        display: Shows what they write.
        turn: Set when it is no longer queued.
        closed: Whether nothing can be started any more.
        scheduler: The link to its scheduler.
        patient_until: When the first coroutines do not wait for further servers any more; None before there are some.
        status: Who wants to know what happens.
        journals: Who looks at what has happened.
        pictures: Shows the coroutines of blocks to whoever looks for the cause of a hang.
        waiting: The tasks that wait for a server.
        watchers: The servers that are told which others there are.
        records: Those of coroutines that somebody here holds.
        again: What to do with coroutines that an idle server refused.
    """

    def __init__(
        self,
        process: Process,
        nursery: trio.Nursery,
        set_up: SetUp,
        status: Publisher,
        journals: list[Journal],
        *,
        timeout: float,
    ) -> None:
        self.set_up = set_up
        self.timeout = timeout
        self.topology: Topology = Topology()
        self.load_balancer: LoadBalancer = self.topology.load_balancer
        self.nodes: dict[bytes, LeasedNode] = self.topology.nodes
        self.servers: dict[bytes, LeasedServer] = self.topology.servers
        self.members: Membership = Membership(self, process, nursery)
        self.display: Display = Display.of(process.endpoint)
        self.turn: trio.Event = trio.Event()
        self.closed: bool = False
        self.scheduler: Link | None = None
        self.status = status
        self.journals = journals
        self.task_dumps: TaskDumps = process.task_dumps
        self.again: RefusedStarts = RefusedStarts(self, nursery)
        self.watchers: ServerDirectory = ServerDirectory(self)
        self._zombies = False
        self._why_closed = "the computation is closed"
        self._released = False
        self.patient_until: float | None = None
        self._over = trio.Event()
        self._process = process
        self.records: OutcomeStore = process.outcome_store
        self.waiting: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    @property
    def location(self) -> Location:
        """Where this process listens."""
        return self._process.endpoint.location

    # --- what nodes and scheduler say

    def heard(self, link: Link, message: Control) -> None:
        """Act on a notice about this computation."""
        if isinstance(message, messages.TurnCame):
            self._zombies = bool(message.zombie_period)
            self.turn.set()
            self.members.turn_came()
        elif isinstance(message, messages.Discarded):
            self._end(f"the scheduler has closed the computation: {message.reason}")
        elif isinstance(message, NodeRests):
            rest_node(self, message.node_id, rests=message.rests)
        elif not self.closed:
            self.members.heard(link, message)

    def link_lost(self, link: Link) -> None:
        """Note that a node, or the scheduler, cannot be reached any more."""
        self.members.link_lost(link)

    def changed(self) -> None:
        """Let those look again who wait for a server."""
        self.waiting.unpark_all()
        self.watchers.tell()

    # --- starting

    def handle(self, started: Submission) -> Coro[Any]:
        """Make the handle of a coroutine that this session started."""
        assert started.host is not None  # noqa: S101 - sessions start by links
        # Over the embedded node's own link the peer's location has no port: the session knows where it listens.
        server = self.servers.get(started.home)
        location = server.location if server is not None else started.host.link.peer.location
        return self._process.handle_to(started, location, self.set_up.computation)

    def check_open(self) -> None:
        """Raise ComputationClosed if nothing can be started any more."""
        if self.closed:
            message = f"{self._why_closed}; it runs nothing more"
            raise ComputationClosed(message)

    async def until_changed(self) -> None:
        """Wait until servers have come or gone, or the computation is closed.

        Raises:
            DiscoroError: No server will come, since the set-up failed at all of them.
        """
        failure = self.topology.failure()
        if failure is not None:
            raise failure.refusal()
        await self.waiting.park()

    async def start(self, call: Call, *, acknowledge: bool = False) -> Submission:
        """Start a coroutine at the least loaded server of the least loaded node, waiting while there is none."""
        started = self.start_now(call, acknowledge=acknowledge)
        while started is None:
            await self.until_changed()
            started = self.start_now(call, acknowledge=acknowledge)
        return started

    def start_now(self, call: Call, *, acknowledge: bool = False) -> Submission | None:
        """Start a coroutine as `start` does; None if there is no server at the moment."""
        if self.closed:
            self.check_open()
        server_id = self.load_balancer.least()
        while server_id is not None:
            server = self.servers[server_id]
            if not server.host.link.lost:
                started = self.start_on(server, call, acknowledge=acknowledge)
                if self._zombies:
                    self.again.keep(started, call, acknowledge=acknowledge)
                return started
            self.topology.withdraw(server)
            server_id = self.load_balancer.least()
        return None

    def start_on(self, server: LeasedServer, call: Call, *, acknowledge: bool = False) -> Submission:
        """Start a coroutine at a server; never waits."""
        started = server.host.start(call, acknowledge=acknowledge)
        self.load_balancer.change(server.server_id, 1)
        if self.status.active:
            tell_created(server, started, call)
        for journal in self.journals:
            journal.begin(started, call)
        return started

    # --- ending

    def cancel(self, started: Submission, reason: str | None = None) -> None:
        """Ask for the cancellation of a coroutine."""
        server = self.servers.get(started.home)
        if server is not None:
            server.host.cancel(started, reason)
        else:
            self.again.cancelled(started, reason)

    async def cancel_and_wait(self, all_started: Iterable[Submission], reason: str | None = None) -> None:
        """Cancel coroutines and wait, shielded, until their clean-up is done or was cut short by force."""
        pending = [started for started in all_started if started.outcome is None]
        for started in pending:
            self.cancel(started, reason)
        await self.until_all_ended(pending)

    async def until_all_ended(self, cancelled: Iterable[Submission]) -> None:
        """Wait, shielded, until the clean-up of cancelled coroutines is done or was cut short by force."""
        pending = [started for started in cancelled if started.outcome is None]
        if not pending:
            return
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self.set_up.grace_period):
                for started in pending:
                    await started.until_ended()
            late = [started for started in pending if started.outcome is None]
            for server_id in {started.home for started in late}:
                await self.replace(server_id, "a cancelled coroutine did not end in its grace period")
            for started in late:
                await started.until_ended()

    async def force(self, started: Submission, grace_period: float | None) -> None:
        """Wait for the end of a cancelled coroutine, and bring it about by force after the grace period."""
        seconds = self.set_up.grace_period if grace_period is None else grace_period
        with trio.move_on_after(seconds):
            await started.until_ended()
            return
        await self.replace(started.home, "a terminated coroutine did not end in its grace period")

    async def replace(self, server_id: bytes, reason: str) -> None:
        """End a server by force; its node starts another one."""
        server = self.servers.get(server_id)
        node = self.nodes.get(server.node_id) if server is not None else None
        if node is None:
            return
        try:
            await node.link.request(messages.Replace(self.set_up.computation, server_id, reason), timeout=self.timeout)
        except DiscoroError as error:
            logger.warning("a server at %s was not replaced: %s", node.location, error)

    async def close(self) -> None:
        """Run nothing more; wait, shielded, until all coroutines have cleaned up and the servers have ended."""
        if self._released:
            # Somebody else closes it; this caller, too, goes on when all has ended.
            with trio.CancelScope(shield=True):
                await self._over.wait()
            return
        self._released = True
        self._end("the computation is closed")
        try:
            await self._close_all()
        finally:
            self._over.set()

    async def _close_all(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes.values():
                    nursery.start_soon(self._release, node)
            if self.scheduler is not None:
                self.scheduler.notify(messages.Withdraw(self.set_up.computation))
        for server_id in self.servers:
            self.display.remove(server_id)
        self._process.endpoint.credentials.pop(self.set_up.computation, None)
        for server in self.servers.values():
            self.status.tell(Status.ServerClosed, server.location)
        for node in self.nodes.values():
            self.status.tell(Status.NodeClosed, node.location.addr)
        self.members.stop()

    def _end(self, why: str) -> None:
        """Run nothing more, and expect nothing of what runs."""
        if self.closed:
            return
        self.closed = True
        self._why_closed = why
        self.changed()
        for server in self.servers.values():
            lose_all(server.host, ComputationClosed(why))
        for journal in self.journals:
            journal.close()

    async def _release(self, node: LeasedNode) -> None:
        longest = self.set_up.grace_period + 5 * self.set_up.pulse_interval
        try:
            await node.link.request(messages.Release(self.set_up.computation), timeout=longest)
        except DiscoroError as error:
            logger.warning("%s did not confirm the end of the computation: %s", node.name, error)
