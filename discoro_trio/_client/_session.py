"""One scheduled computation, from the queue to its close: its starts, and the ends of its coroutines.

Users call `Computation`. `Membership` adds and removes nodes and servers, and `Topology` picks the server of a
coroutine.
"""

from __future__ import annotations

import logging
import os
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

from .._cluster import NodeRests, messages
from .._errors import ComputationClosed, DiscoroError, FileTransferError, NotPicklable, UnknownLocation
from .._link import Wakeup
from .._printable import printable
from .._process import Ending, LocalOutcome, Pickled, Submission, lose_all
from .._process._parts import PART
from .._records import Record
from .._scopes import finish
from .._shipping import dumps
from .._status import NodeAllocation, Status
from ._backlog import Backlog
from ._load_balancer import WIDEST
from ._maintenance import rest_node
from ._membership import Membership
from ._output import Display
from ._repeated_arguments import LARGE, RepeatedArguments
from ._server_directory import ServerDirectory
from ._sharing import SharedValues
from ._snapshot import started_there
from ._status import note_moved, tell_created
from ._topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from .._cluster import Publisher
    from .._link import Link
    from .._process import Call, Coro, OutcomeStore, Process, TaskDumps
    from .._shipping import Shipped
    from .._values import Location
    from .._wire import Control
    from ._journal import Journal
    from ._load_balancer import LoadBalancer, ServerLoad
    from ._server import LeasedServer
    from ._topology import LeasedNode

logger = logging.getLogger(__name__)

_LAST_OUTCOMES = 1.0
"""Seconds to wait for the last outcomes of servers that their nodes report as ended."""

_PATIENCE = 1.0
"""Seconds that starts wait for servers that are being set up, to spread starts over all of them."""

_TAIL = 0.005
"""If none has been added for so many seconds, the starts that wait here count as the last ones."""

UNKNOWN = 1 << 40
"""More jobs than any map has."""

_LOOK = 0.02
"""Seconds between two searches for starts that wait at a busy server."""


class SetUp(Record, frozen=True):
    """The description of a computation that every node receives."""

    computation: bytes
    """The computation's id."""
    name: str
    """Its name, for display."""
    package: bytes
    """Its components."""
    shipped: Shipped
    """The components that are sent by name."""
    grace_period: float
    """Seconds that cancelled coroutines have for clean-up."""
    pulse_interval: float
    """Seconds between heartbeats."""
    threads: int
    """How many plain functions run at the same time on a server."""
    forward_output: bool
    """Whether output is forwarded to this process."""
    cleanup: bool
    """Whether files are removed at the end."""
    node_setup: list[bytes]
    """The pickled function that one server of each node runs, and its buffers; empty for none."""
    server_setup: list[bytes]
    """The pickled function that each server runs, and its buffers; empty for none."""
    streams: tuple[Path, ...] = ()
    """The large files among the components, by their number."""
    largest: tuple[str, int] = "", 0
    """Path and bytes of the largest file among its components."""

    def prepare(self) -> messages.Prepare:
        """Make the request for a node."""
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


def _read_part(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            return os.pread(file.fileno(), size, offset)
    except OSError as error:
        text = f"the component {str(path)!r} cannot be read any more: {error.strerror}"
        raise FileTransferError(text) from error


class Session:
    """A computation that is queued or runs.

    Attributes:
        set_up: The description that its nodes receive.
        timeout: Seconds for connecting, a handshake, or the reply to a request.
        topology: Its nodes and servers.
                members: Adds and removes nodes and servers.
                display: Shows their output.
        turn: Set when it is no longer queued.
        closed: Whether nothing can be started any more.
        scheduler: The link to its scheduler.
        status: The subscribers of its events.
        journals: The readers of its journals.
        task_dumps: Shows the coroutines of blocks in task dumps.
        waiting: The tasks that wait for a server.
        watching: The tasks that wait for any change of the servers.
        allocations: The parts of the cluster that it requests; empty for all servers.
        room: The tasks that wait until few starts wait here.
        watchers: The servers that receive the list of servers.
        records: The records of coroutines that code in this process holds.
        shared: The values shared with its servers.
        backlog: The starts that wait here until a server has room for them.
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
        self.failed: int = 0
        self.backlog: Backlog = Backlog()
        self.watchers: ServerDirectory = ServerDirectory(self)
        self._why_closed = "the computation is closed"
        self._released = False
        self._told_closed = False
        self.movers: list[Callable[[set[bytes]], None]] = []
        """Callbacks of maps, which get the ids of drained servers and move their jobs to others."""
        self.unread: list[Callable[[], int]] = []
        """Callbacks of maps and executors, which return how many jobs they have not submitted yet."""
        self.to_send: list[Callable[[], int]] = []
        """Callbacks of maps, which return how many more jobs they will submit; `UNKNOWN` if they do not know."""
        self._last_put = 0.0
        self.plenty: int = 0
        """So many starts are sent before it is checked again whether few are left."""
        self._wanted_servers: list[int] = []
        self._nursery = nursery
        # The servers that are being set up for the first time, while starts wait for them.
        self._coming = 0
        self._impatient = False
        self._keeps = False
        self._sendable: dict[int, Callable[..., Any]] = {}
        self._late = Wakeup()
        self._looks = False
        nursery.start_soon(self._watch_late, name="take back late starts")
        self._over = trio.Event()
        self._process = process
        self.records: OutcomeStore = process.outcome_store
        self._repeated = RepeatedArguments()
        self.shared: SharedValues = SharedValues(self, process)
        self.waiting: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.watching: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()
        self.allocations: tuple[NodeAllocation, ...] = ()
        self.room: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    @property
    def location(self) -> Location:
        """The Location at which this process listens."""
        return self._process.endpoint.location

    # --- messages of nodes and scheduler

    def heard(self, link: Link, message: Control) -> None:
        """Act on a notice about this computation."""
        if isinstance(message, messages.TurnCame):
            self.turn.set()
            self.members.turn_came()
        elif isinstance(message, messages.Discarded):
            self._end(f"the scheduler has closed the computation: {message.reason}")
            self.turn.set()  # it need not wait for its turn any more
            self._nursery.start_soon(self._report_end, name="report that the computation is closed")
        elif isinstance(message, NodeRests):
            rest_node(self, message.node_id, rests=message.rests)
        elif isinstance(message, messages.ServerBlocked):
            server = self.servers.get(message.server_id)
            if server is not None:
                link.notify(started_there(server, self))
        elif not self.closed:
            self.members.heard(link, message)

    def link_lost(self, link: Link) -> None:
        """Note that a node, or the scheduler, cannot be reached any more."""
        self.members.link_lost(link)

    def changed(self) -> None:
        """Wake the tasks that wait for a server."""
        self._coming = 0 if self._impatient or self.closed else self.topology.coming
        if self.backlog:
            self._give_up_waiting()
            self.drain()
        self.waiting.unpark_all()
        self.watching.unpark_all()
        self.room.unpark_all()
        self.watchers.tell()

    async def read_component(self, message: messages.ReadComponent) -> messages.ComponentBytes:
        """Send a node bytes of a large file; FileTransferError if they cannot be read."""
        streams = self.set_up.streams
        if not 0 <= message.stream < len(streams):
            text = f"the components have no large file of number {message.stream}"
            raise FileTransferError(text)
        path = streams[message.stream]
        data = await trio.to_thread.run_sync(_read_part, path, message.offset, min(message.size, PART))
        return messages.ComponentBytes(memoryview(data))

    # --- starting

    def handle(self, started: Submission) -> Coro[Any]:
        """Make the handle of a coroutine that this session started."""
        assert started.host is not None  # noqa: S101 - sessions start by links
        # On the embedded node's own link the peer's location has no port: the session has the right one.
        server = self.servers.get(started.home)
        location = server.location if server is not None else started.host.link.peer.location
        return self._process.handle_to(started, location, self.set_up.computation)

    def check_open(self) -> None:
        """Raise ComputationClosed if nothing can be started any more."""
        if self.closed:
            message = f"{self._why_closed}; it runs nothing more"
            raise ComputationClosed(message)

    async def until_changed(self, *, for_server: bool = True) -> None:
        """Wait until servers have joined or ended, or the computation is closed.

        Args:
            for_server: Whether the task counts as one that waits for a server.

        Raises:
            DiscoroError: No server will come, since the set-up failed at all of them.
        """
        failure = self.topology.failure()
        if failure is not None:
            raise failure.refusal()
        await (self.waiting if for_server else self.watching).park()

    async def until_servers(self, count: int, where: Location | str | None = None) -> None:
        """Wait until a number of servers take work, in total or at a place.

        Raises:
            DiscoroError: No server will come, since the set-up failed at all of them.
            ComputationClosed: The computation is closed.
        """
        self.check_open()
        self._wanted_servers.append(count)
        try:
            while self.topology.taking(where) < count:
                await self.until_changed()
                self.check_open()
        finally:
            self._wanted_servers.remove(count)

    def demand(self) -> tuple[int, int]:
        """Return how many jobs have not ended, and how many servers a task waits for; 0 for none."""
        jobs = len(self.backlog) + int(self.load_balancer.total()) + sum(count() for count in self.unread)
        return jobs, max(self._wanted_servers, default=0)

    async def until_complete(self, count: int) -> None:
        """Wait until a number of servers take work, or all granted ones do or have failed. Raises ComputationClosed."""
        while not self.topology.complete and self.topology.taking() < count:
            self.check_open()
            await self.waiting.park()

    async def until_first_server(self) -> None:
        """Wait until the first server has joined. Raises as `until_servers`."""
        if not self.servers and not self.topology.servers_lost:
            await self.until_servers(1)

    def submit(self, call: Call, *, acknowledge: bool = False, node_id: bytes | None = None) -> Submission:
        """Start a coroutine where it begins soonest; it waits in this process while no server has room for it.

        Args:
            call: The function and its arguments.
            acknowledge: Whether its server reports when it has begun (`Submission.until_begun`).
            node_id: The node that it is for; None for any.

        Returns:
            Its record. It is lost if no server will come, or if the computation is closed before it is sent.

        Raises:
            ComputationClosed: The computation is closed.
            NotPicklable: The function cannot be sent.
        """
        if self.closed:
            self.check_open()
        plain = call.plain
        if not self.backlog.size or not self.backlog.waits(node_id, plain=plain):
            now = perf_counter()
            place = self.load_balancer.pick(now, node_id, plain=plain)
            if (
                place is not None
                and not (self._coming and self._kept_for_others(place, self.backlog.size))
                and not (self.to_send and self._has_enough(place, plain=plain))
            ):
                server = self.servers[place.server]
                if not server.host.link.lost:
                    started = self._start(server, place, now, call, acknowledge=acknowledge)
                    started.call = (call, acknowledge, node_id)
                    return started
                self.topology.withdraw(server)
        self.check_sendable(call)
        started = Submission(b"", 0, call.name, None)
        started.call = (call, acknowledge, node_id)
        if call.span is not None:
            call.span.follow(started)
        started.plain = plain
        self.backlog.put(started, node_id, plain=plain)
        self._last_put = perf_counter()
        self._give_up_waiting()
        self.drain()
        return started

    def start_on(self, server: LeasedServer, call: Call, *, acknowledge: bool = False) -> Submission:
        """Start a coroutine at a server, even if others run or wait there; never waits."""
        place = server.place
        assert place is not None  # noqa: S101 - it takes starts
        return self._start(server, place, perf_counter(), call, acknowledge=acknowledge, at_once=True)

    def _start(
        self,
        server: LeasedServer,
        place: ServerLoad,
        now: float,
        call: Call,
        *,
        acknowledge: bool,
        at_once: bool = False,
        started: Submission | None = None,
    ) -> Submission:
        moved = started is not None and started.host is not None
        if call.buffers or len(call.body) >= LARGE:
            self._repeated.note(call, self.set_up.shipped)
        started = server.host.start(call, acknowledge=acknowledge, at_once=at_once, started=started)
        plain = call.plain
        started.plain = plain
        started.place = place
        started.ahead = self.load_balancer.sent(place, now, plain=plain)
        if not self._looks:
            self._looks = True
            self._late.ring()
        if moved:
            note_moved(server, started)
            return started
        if self.status.active:
            tell_created(server, started, call)
        for journal in self.journals:
            journal.begin(started, call)
        return started

    # --- starts that wait in this process

    def drain(self) -> None:
        """Send waiting starts to the servers that have room."""
        now = perf_counter()
        for node_id, plain in self.backlog.kinds():
            while (place := self.load_balancer.pick(now, node_id, plain=plain)) is not None:
                if not self._send_next(place, now, plain=plain):
                    break
        self._tell_readers()

    def _tell_readers(self) -> None:
        """Wake the readers that pause while many starts wait here."""
        if self.room and self.backlog.size <= len(self.servers):
            self.room.unpark_all()

    def drain_at(self, place: ServerLoad, now: float) -> None:
        """Send waiting starts to one server, while it has room."""
        for plain in (False, True):
            while self.load_balancer.takes_more(place, now, plain=plain):
                if not self._send_next(place, now, plain=plain):
                    break
        if self.load_balancer.held and self.backlog:
            self.drain()
        else:
            self._tell_readers()

    def _send_next(self, place: ServerLoad, now: float, *, plain: bool) -> bool:
        """Send a waiting start to a server with room; return False if none waits, or all should rather wait here."""
        if self._coming and self._kept_for_others(place, self.backlog.size - 1):
            return False
        if (self.to_send or now - self._last_put > _TAIL) and self._has_enough(place, plain=plain):
            return False
        server = self.servers[place.server]
        if server.host.link.lost:
            self.topology.withdraw(server)
            return True
        started = self.backlog.take(place.node.node_id, plain=plain)
        if started is None:
            return False
        how = started.call
        assert how is not None  # noqa: S101 - it has not begun
        call, acknowledge, _ = how
        try:
            self._start(server, place, now, call, acknowledge=acknowledge, started=started)
        except NotPicklable as error:
            started.end(LocalOutcome.failed(error))
        return True

    def _kept_for_others(self, place: ServerLoad, earlier: int) -> bool:
        """Whether a start waits for a server that is being set up, which would have less load than this one.

        Args:
            place: The server that could take the start now.
            earlier: How many starts wait for other servers already.

        Otherwise the first ready server would get all coroutines that are started right after scheduling.
        """
        if place.load * self._coming <= earlier:
            return False
        if not self._keeps:
            self._keeps = True
            self._nursery.start_soon(self._lose_patience, name="wait for further servers")
        return True

    def _has_enough(self, place: ServerLoad, *, plain: bool) -> bool:
        """Whether the last jobs should rather wait here than at a server where others wait.

        These may take much longer than the ones before, and what waits at a server that computes cannot be taken back.
        So no server gets more ahead than half of its share of what is left.
        """
        if self.plenty > 0:
            self.plenty -= 1
            return False
        waiting = place.lanes[plain].waiting
        if not waiting:
            return False
        left = self.backlog.size + sum(count() for count in self.to_send)
        share = left // (2 * len(self.servers))
        if share > WIDEST:
            self.plenty = left - 2 * WIDEST * len(self.servers)
        return waiting >= max(share, 1)

    async def _lose_patience(self) -> None:
        await trio.sleep(_PATIENCE)
        self._impatient = True
        self.changed()

    def _give_up_waiting(self) -> None:
        """End starts whose servers will not come."""
        failure = self.topology.failure()
        if failure is not None:
            for started in self.backlog.clear():
                started.end(LocalOutcome.lost(failure.refusal()))
        for key in self.backlog.kinds():
            node_id = key[0]
            if node_id is not None and node_id not in self.nodes:
                for started in self.backlog.take_all(key):
                    message = f"the node at which {started.name} should start is gone"
                    started.end(LocalOutcome.lost(UnknownLocation(message)))

    def check_sendable(self, call: Call) -> None:
        """Raise NotPicklable for a function that cannot be sent, before its start waits."""
        function = call.function
        if isinstance(function, Pickled) or self._sendable.get(id(function)) is function:
            return
        dumps(function, self.set_up.shipped)
        self._sendable[id(function)] = function

    def start_again(self, all_started: Sequence[Submission]) -> None:
        """Queue starts again that were sent and never began."""
        for started in reversed(all_started):
            if started.outcome is not None:
                continue
            if self.closed:
                started.end(LocalOutcome.lost(self.closed_error()))
                continue
            if started.cancelled_for is not None or started.call is None:
                started.end(LocalOutcome.cancelled(started.cancelled_for[0] if started.cancelled_for else None))
                continue
            self.records.keep(started)  # other starts may have its old name
            if started.place is not None:
                self.load_balancer.returned(started.place, plain=started.plain)
            started.place, started.ahead, started.revoked = None, 0, False
            self.backlog.put_back(started, started.call[2], plain=started.plain)
        self.drain()

    async def _watch_late(self) -> None:
        """Take starts back that wait at a busy server while another server is idle."""
        while True:
            self._looks = False
            await self._late.wait()
            while self.load_balancer.waits:
                await trio.sleep(_LOOK)
                now = perf_counter()
                late = list(self.load_balancer.late(now))
                for place in late:
                    self.load_balancer.leave_out(place)
                if not self.backlog:
                    self._take_back(late, now)
                elif late or self.load_balancer.held:
                    self.drain()

    def _take_back(self, late: Iterable[ServerLoad], now: float) -> None:
        for place in late:
            server = self.servers.get(place.server)
            if server is None or server.host.link.lost:
                continue
            for plain in (False, True):
                lane = place.lanes[plain]
                free = self.load_balancer.pick(now, plain=plain) if lane.late(now) else None
                if free is None or free is place or free.lanes[plain].waiting:
                    continue
                newest = islice(reversed(server.host.started.values()), 2 * WIDEST)
                waiting = [one for one in newest if _can_move(one, plain=plain)]
                for one in waiting:
                    one.revoked = True
                if waiting:
                    server.host.revoke(waiting)

    # --- ending

    def cancel(self, started: Submission, reason: str | None = None) -> None:
        """Request the cancellation of a coroutine."""
        if started.place is None and started.outcome is None:  # it waits here
            started.end(LocalOutcome.cancelled(reason))
            return
        server = self.servers.get(started.home)
        if server is not None:
            server.host.cancel(started, reason)

    async def cancel_and_wait(self, all_started: Iterable[Submission], reason: str | None = None) -> None:
        """Cancel coroutines and wait, shielded, until their clean-up is done or was cut short by force."""
        pending = [started for started in all_started if started.outcome is None]
        for started in pending:
            self.cancel(started, reason)
        await self.until_all_ended(pending)

    async def until_all_ended(self, cancelled: Iterable[Submission]) -> None:
        """Wait, shielded, until the clean-up of cancelled coroutines is done or was cut short by force."""
        pending = [started for started in cancelled if started.outcome is None]
        if pending:
            await finish(self._until_ended, pending)

    async def _until_ended(self, pending: Sequence[Submission]) -> None:
        with trio.move_on_after(self.set_up.grace_period):
            for started in pending:
                await started.until_ended()
        late = [started for started in pending if started.outcome is None]
        for server_id in {started.home for started in late}:
            await self.replace(server_id, "a cancelled coroutine did not end in its grace period")
        for started in late:
            await started.until_ended()

    async def force(self, started: Submission, grace_period: float | None) -> None:
        """Wait for the end of a cancelled coroutine; end it by force after the grace period."""
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
            # Another task is closing it; this caller, too, waits until all has ended.
            await finish(self._over.wait)
            return
        self._released = True
        self._stop_starting("the computation is closed")
        try:
            await finish(self._close_all)
        finally:
            self._lose_all()
            self._over.set()

    async def _close_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(self._release, node)
        if self.scheduler is not None:
            self.scheduler.notify(messages.Withdraw(self.set_up.computation))
        with trio.move_on_after(_LAST_OUTCOMES):
            for server in list(self.servers.values()):
                await server.host.link.ended.wait()
        for server_id in self.servers:
            self.display.remove(server_id)
        self._process.endpoint.credentials.pop(self.set_up.computation, None)
        for server in self.servers.values():
            self.status.tell(Status.ServerClosed, server.location)
        for node in self.nodes.values():
            self.status.tell(Status.NodeClosed, node.location.addr)
        self.members.stop()
        self.shared.close()

    def _end(self, why: str) -> None:
        """Run nothing more, and do not wait for running coroutines."""
        if not self.closed:
            self._stop_starting(why)
            self._lose_all()

    def _stop_starting(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._why_closed = why
        for started in self.backlog.clear():
            started.end(LocalOutcome.lost(ComputationClosed(f"{why}; it runs nothing more")))
        self.changed()

    def _lose_all(self) -> None:
        for server in self.servers.values():
            lose_all(server.host, self.closed_error())
        for journal in self.journals:
            journal.close()

    async def _report_end(self) -> None:
        await self.close()
        self.tell_closed()

    def tell_closed(self) -> None:
        """Report once that the computation is closed."""
        if not self._told_closed:
            self._told_closed = True
            self.status.tell(Status.ComputationClosed, self.location)

    def closed_error(self) -> ComputationClosed:
        """Return the error for coroutines that ran when the computation was closed."""
        return ComputationClosed(self._why_closed)

    async def _release(self, node: LeasedNode) -> None:
        longest = self.set_up.grace_period + 5 * self.set_up.pulse_interval
        try:
            await node.link.request(messages.Release(self.set_up.computation), timeout=longest)
        except DiscoroError as error:
            logger.warning("%s did not confirm the end of the computation: %s", node.name, error)


def raise_clean_up_error(started: Submission, cause: BaseException) -> None:
    """Raise the error of a coroutine's clean-up instead of the cancellation that led to it, as in Trio.

    If something other than a cancellation led to it, the caller raises that, and this error is logged.
    """
    outcome = started.outcome
    if outcome is None or outcome.ending is not Ending.ERROR:
        return
    error = outcome.error()
    assert error is not None  # noqa: S101 - it ended with one
    if isinstance(cause, trio.Cancelled):
        raise error
    logger.error("%s failed in its clean-up", printable(started.name), exc_info=error)


def _can_move(started: Submission, *, plain: bool) -> bool:
    """Whether a start has not been reported as begun and may be taken back."""
    return bool(started.ahead) and started.plain is plain and not started.revoked and started.call is not None
