"""The `Computation` that users create: its options, and its life from the queue to the close.

`Runs` has the methods that run functions in it; a `Session` is its state while it is scheduled.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from .. import _arguments as arguments
from .._cluster import Publisher, Scheduler, check_period, check_pulse_interval, current_scheduler
from .._compat import _old_programs as migration
from .._config import config
from .._errors import ComputationClosed
from .._link import EndpointOptions
from .._process import Coro, Shared, describe, ensure_endpoint
from .._process._telemetry import traced
from .._records import Record
from .._scopes import open_background
from .._shipping import check_size, close_shipped, dumps, encode_package, open_shipped
from .._shipping._components import check_components, pack
from .._status import NodeAllocation, Status
from .._values import Location, node_name
from .._values import location as as_location
from ._branch import ComputationHandle
from ._display import Displayed, View
from ._journal import Journal
from ._maintenance import restart_server, resume_node, suspend_node
from ._owned import Owned
from ._queueing import Asked, Queueing
from ._runs import Runs
from ._scheduler_messages import SchedulerMessages
from ._scheduler_path import SchedulerPath
from ._session import Session, SetUp
from ._snapshot import snapshot_of
from ._starting import check_where
from ._statistics import ComputationStatistics, statistics_of
from ._status import Relay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from .._cluster import ClusterStatus, StatusSubscription
    from .._shipping import Package, Shipped


T = TypeVar("T")


logger = logging.getLogger(__name__)


class Options(Record, frozen=True, kw_only=True):
    """The options of a computation, checked."""

    timeout: float
    pulse_interval: float
    grace_period: float
    cleanup: bool
    forward_output: bool
    threads: int
    automatic: bool
    name: str
    zombie_period: float | None
    allocations: tuple[NodeAllocation, ...]


@migration.answers_for(migration.COMPUTATION)
class Computation(Displayed, Runs):
    """Functions, classes, modules and files that are shipped to servers, and the coroutines that run there.

    Args:
        components: Functions, classes, modules, packages, and paths of files and folders.
        status_coro: Receives status messages, and a `MonitorException` when a coroutine ends.
        timeout: Seconds for connecting, a handshake, the reply to a request, or a transfer without progress;
            `config.MsgTimeout` by default.
        pulse_interval: Seconds between heartbeats; `config.MinPulseInterval` by default.
        grace_period: Seconds that cancelled coroutines have for their clean-up before their server is replaced.
        zombie_period: Seconds after which an idle server is closed, and the computation with its last one; 0 or None
            for never. A shared scheduler's own period overrides it.
        node_setup: A function, async or plain, that runs once on each node, at one of its servers, before the
            others are set up. If it fails, none of the node's servers is used.
        server_setup: A function that runs once on each server, and on each replacement, before its first
            job. If it fails, that server is not used.
        node_allocations: The parts of the cluster to request; by default all servers of all nodes. The first
            allocation that matches a node decides how many of its servers are requested.
        cleanup: Whether the working folders are removed at the end. If False, they are kept at nodes that were
            started with `dest_path`; a warning names the other nodes.
        forward_output: Whether this program shows what coroutines print and log.
        threads: How many plain functions run at the same time on a server, each in a thread.
        automatic: Whether a listed or called function is sent with the functions, classes and constants of the
            client's own modules that it uses by name. If False, only listed components are sent.
        name: A name to display; by default the name of the first component.

    Raises:
        TypeError: A component has another type, a set-up function cannot be run, or `status_coro` is no Coro.
        ValueError: An option is out of range; the message names the setting that limits it.
    """

    def __init__(
        self,
        components: Iterable[object] = (),
        *,
        status_coro: Coro[Any] | None = None,
        timeout: float | None = None,
        pulse_interval: float | None = None,
        grace_period: float = 5.0,
        zombie_period: float | None = None,
        node_setup: Callable[[], object] | None = None,
        server_setup: Callable[[], object] | None = None,
        node_allocations: Iterable[NodeAllocation] = (),
        cleanup: bool = True,
        forward_output: bool = True,
        threads: int = 40,
        automatic: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__()
        migration.check_settings()
        self._components = check_components(components)
        self._set_up_functions = tuple(_checked(fn) for fn in (node_setup, server_setup))
        self.options: Options = Options(
            timeout=config.MsgTimeout if timeout is None else arguments.above_zero("timeout", timeout),
            pulse_interval=check_pulse_interval(pulse_interval),
            grace_period=arguments.not_negative("grace_period", grace_period),
            cleanup=arguments.flag("cleanup", cleanup),
            forward_output=arguments.flag("forward_output", forward_output),
            threads=arguments.integer("threads", threads, least=1),
            automatic=arguments.flag("automatic", automatic),
            name=arguments.optional_text("name", name) or "computation",
            zombie_period=check_period("zombie_period", zombie_period),
            allocations=_allocations(node_allocations),
        )
        self._status_coro = _coro(status_coro)
        self._status = Publisher(self._snapshot)
        self._journals: list[Journal] = []
        self._was_closed = False

    # --- life cycle

    @migration.without_timeout
    @migration.to_be_entered
    @asynccontextmanager
    async def schedule(
        self, scheduler: Scheduler | Location | str | None = None, *, servers: int | None = None
    ) -> AsyncIterator[Computation]:
        """Queue the computation, wait for its turn and for servers, and close it when the block is left.

        Args:
            scheduler: A Scheduler, a Location, its text, or the name of a host; by default the innermost enclosing
                scheduler, else one that discovery finds.
            servers: How many servers to wait for; 0: do not wait. By default, in a cluster that `open_cluster`
                opened, wait for all of its servers, up to `timeout` seconds; otherwise do not wait.

        Yields:
            The computation, which can now run functions.

        Raises:
            SchedulerNotFound: No scheduler answered within `timeout`.
            RuntimeError: The computation is already scheduled.
            ComputationClosed: An admin request closed it while it waited.
            DiscoroError: The set-up failed at all servers, and `servers` was given.
            ExceptionGroup: Errors of coroutines that no code has received, if the block raised nothing else.

        Cancelling while it waits removes the computation from the queue.
        """
        if not (scheduler is None or isinstance(scheduler, Scheduler | Location | str)):
            arguments.wrong_type("scheduler", scheduler, "a Scheduler, a Location, its text or None")
        if isinstance(scheduler, str):
            scheduler = arguments.text("scheduler", scheduler)
        servers = arguments.optional_integer("servers", servers, least=0)
        if self._session is not None:
            message = "this computation is scheduled already; make a second Computation to schedule twice"
            raise RuntimeError(message)
        async with (
            ensure_endpoint(EndpointOptions(ip_addr=""), private=False) as process,
            traced(self.options.name),
            open_background(shielded=True) as nursery,
        ):
            session = self._session = Session(
                process, nursery, self._set_up(), self._status, self._journals, timeout=self.options.timeout
            )
            session.allocations = self.options.allocations
            for journal in self._journals:
                journal.open(session)
            self._owned = Owned(session)
            self._was_closed = False
            dispatcher = SchedulerMessages.of(process.endpoint)
            dispatcher.sessions[session.set_up.computation] = session
            open_shipped(session.set_up.shipped)
            self._status.begin()
            relay = Relay(self._status, self._status_coro, nursery) if self._status_coro is not None else None
            failed = True
            try:
                wanted = current_scheduler() if scheduler is None else scheduler
                path = SchedulerPath(process.endpoint, wanted, self.options.timeout)
                await Queueing(session, process.endpoint, self._asked(), path).take(nursery)
                self._status.tell(Status.ComputationScheduled, process.endpoint.location)
                if servers is not None:
                    await session.until_servers(servers)
                elif isinstance(wanted, Scheduler) and wanted.own_servers:
                    with trio.move_on_after(self.options.timeout):
                        await session.until_complete(wanted.own_servers)
                with (
                    process.names.kept_at(lambda: session.scheduler),
                    process.task_dumps.block(f"run in {session.set_up.name}", self._owned.running),
                ):
                    yield self
                failed = False
            finally:
                try:
                    await self.close()
                except BaseException:
                    failed = True  # Ctrl-C came meanwhile
                    raise
                finally:
                    session.tell_closed()
                    self._status.end()
                    close_shipped(session.set_up.shipped)
                    del dispatcher.sessions[session.set_up.computation]
                    unheard = self._owned.unheard()
                    self._session = self._owned = None
                    if failed:
                        for error in unheard:
                            logger.error("a coroutine failed, and its error is not raised elsewhere", exc_info=error)
                if relay is not None:
                    await relay.finish()
        if unheard:
            message = "coroutines failed and no code received their errors"
            raise BaseExceptionGroup(message, unheard)

    def _set_up(self) -> SetUp:
        options = self.options
        # Not in a worker thread: the modules of the components must not change while they are inspected.
        packed = pack(self._components, automatic=options.automatic)
        self._shipped = packed.shipped
        node_setup, server_setup = (_packed(fn, packed.shipped) for fn in self._set_up_functions)
        package = encode_package(packed.package)
        check_size("the code of the components and of the set-up functions", package, [*node_setup, *server_setup])
        return SetUp(
            computation=secrets.token_bytes(16),
            name=options.name,
            package=package,
            shipped=packed.shipped,
            grace_period=options.grace_period,
            pulse_interval=options.pulse_interval,
            threads=options.threads,
            forward_output=options.forward_output,
            cleanup=options.cleanup,
            node_setup=node_setup,
            server_setup=server_setup,
            streams=packed.streams,
            largest=_largest(packed.package),
        )

    def _asked(self) -> Asked:
        options = self.options
        return Asked(
            name=options.name,
            allocations=options.allocations,
            zombie_period=options.zombie_period,
            pulse_interval=options.pulse_interval,
        )

    async def close(self) -> None:
        """Close the computation early: cancel its coroutines, wait for their clean-up and the end of its servers."""
        self._was_closed = True
        session = self._session
        if session is not None:
            if self._owned is not None:
                self._owned.close()
            await session.close()

    def _running(self) -> Session:
        if self._session is None:
            if self._was_closed:
                message = "the computation is closed; it runs nothing more"
                raise ComputationClosed(message)
            message = "the computation is not scheduled; run it inside 'async with computation.schedule():'"
            raise RuntimeError(message)
        self._session.check_open()
        return self._session

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it for its servers; coroutines there get a `ComputationHandle`, with which they run others."""
        return ComputationHandle, (self._running().set_up.computation,)

    # --- values for all its servers

    async def share(self, value: T) -> Shared[T]:
        """Share a large value with all servers: send the handle in place of it, in arguments, closures and messages.

        Each node receives the value once, and all its servers map it. Nodes pass it on to each other, so this program
        sends it only once. Servers and nodes that join later get it, too.

        Args:
            value: Anything that can be sent. It is copied before the first checkpoint: later changes in this program
                do not reach the servers.

        Returns:
            The handle, once all nodes have the value. At a server, `Shared.value` returns the value.

        Raises:
            NotPicklable: The value cannot be sent.
            DiscoroError: A node has no room for it.
            RuntimeError, ComputationClosed: As for `run`.

        If it is cancelled, nothing is shared.
        """
        return await self._running().shared.share(value)

    # --- its servers and counts

    async def wait_for_servers(self, n: int, *, where: Location | str | None = None) -> None:
        """Wait until a number of servers take work.

        Args:
            n: The number of servers.
            where: The address, name or Location of a node whose servers are counted, or the Location of a server; by
                default all servers of the computation are counted.

        Raises:
            ValueError: `n` is negative.
            DiscoroError: No server will come, since the set-up failed at all of them.
            RuntimeError, ComputationClosed: As for `run`.

        There is no timeout; use `trio.fail_after`. Cancelling it changes nothing.
        """
        n = arguments.integer("n", n, least=0)
        if where is not None:
            where = check_where(where)
        await trio.lowlevel.checkpoint()
        await self._running().until_servers(n, where)

    async def nodes(self) -> list[str]:
        """Return the addresses of the nodes in use; while there is no server yet, wait for the first one.

        Raises:
            DiscoroError: No server will come, since the set-up failed at all of them.
            RuntimeError, ComputationClosed: As for `run`.

        Cancelling it changes nothing.
        """
        await trio.lowlevel.checkpoint()
        session = self._running()
        await session.until_first_server()
        used = {server.node_id for server in session.servers.values()}
        return [node.location.addr for node in session.nodes.values() if node.node_id in used]

    async def servers(self) -> list[Location]:
        """Return the Locations of the servers in use; while there is none yet, wait for the first one.

        Raises:
            DiscoroError: No server will come, since the set-up failed at all of them.
            RuntimeError, ComputationClosed: As for `run`.

        Cancelling it changes nothing.
        """
        await trio.lowlevel.checkpoint()
        session = self._running()
        await session.until_first_server()
        return [server.location for server in session.servers.values()]

    def statistics(self) -> ComputationStatistics:
        """Return the counts of nodes, servers and coroutines.

        Returns:
            The counts at this moment.

        Raises:
            RuntimeError, ComputationClosed: As for `run`.
        """
        return statistics_of(self._running())

    def _view(self) -> View:
        title = f"discoro {self.options.name}"
        session = self._session
        if session is None or session.closed:
            ended = session is not None or self._was_closed
            return View(title, {"state": "closed" if ended else "not scheduled"}, final=True)
        counts = statistics_of(session)
        rows = {"servers": counts.servers, "nodes": counts.nodes, "waiting": counts.waiting, "running": counts.running}
        if counts.servers_lost:
            rows["servers lost"] = counts.servers_lost
        total = counts.submitted + counts.waiting
        done = counts.submitted - counts.running
        return View(title, rows, final=False, done=done, total=total, failed=counts.failed)

    def subscribe(self) -> AbstractAsyncContextManager[StatusSubscription]:
        """Subscribe to its events: status messages and ends of coroutines.

        Yields:
            A receive channel of `DiscoroStatus`, `MonitorException` and, for a subscriber that is
            `config.status_backlog` events behind, `StatusLagged`. The channel ends after the computation's block.
        """
        return self._status.subscribed()

    @property
    def _id(self) -> str:
        return self._session.set_up.computation.hex() if self._session is not None else ""

    def _snapshot(self) -> ClusterStatus | None:
        return snapshot_of(self._session) if self._session is not None else None

    @contextmanager
    def _followed(self) -> Iterator[Journal]:
        """Keep a journal of events while the block lasts; the caller reads it."""
        journal = Journal()
        if self._session is not None and not self._session.closed:
            journal.open(self._session)
        self._journals.append(journal)
        try:
            yield journal
        finally:
            self._journals.remove(journal)

    # --- changes while it runs

    async def restart_server(self, location: Location | str) -> Location:
        """Replace a server's process, and wait until the new one is set up.

        Coroutines there are cancelled; they have the grace period for their clean-up.

        Args:
            location: The server's Location, or its text `addr:port` or `name:port`.

        Returns:
            The Location of the new server.

        Raises:
            UnknownLocation: The computation has no server there; the message lists its servers.
            ServerLost: Its node is gone.
            DiscoroError: The new server could not be set up.
            RuntimeError, ComputationClosed: As for `run`.

        If it is cancelled, the server is restarted all the same.
        """
        where = as_location("location", location)
        await trio.lowlevel.checkpoint()
        return await restart_server(self._running(), where)

    async def suspend_node(self, addr: Location | str) -> None:
        """Start no more coroutines at a node; running ones go on.

        A `run_at` for the node waits until the node is resumed. Cancelling it changes nothing.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation: The computation has no such node; the message lists its nodes.
            RuntimeError, ComputationClosed: As for `run`.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        suspend_node(self._running(), where)

    async def resume_node(self, addr: Location | str) -> None:
        """Start coroutines at a suspended node again. Does nothing if the node is not suspended, or if cancelled.

        Args:
            addr: The address, name or Location (`addr:port`) of the node.

        Raises:
            UnknownLocation, RuntimeError, ComputationClosed: As for `suspend_node`.
        """
        where = node_name("addr", addr)
        await trio.lowlevel.checkpoint()
        resume_node(self._running(), where)


def _checked(function: Callable[[], object] | None) -> Callable[[], object] | None:
    if function is not None:
        describe(function)
    return function


def _largest(package: Package) -> tuple[str, int]:
    sizes = ((file.path, file.size) for file in package.files)
    return max(sizes, key=lambda one: one[1], default=("", 0))


def _packed(function: Callable[[], object] | None, shipped: Shipped) -> list[bytes]:
    if function is None:
        return []
    body, buffers = dumps(function, shipped)
    return [body, *(bytes(buffer) for buffer in buffers)]


def _coro(status_coro: object) -> Coro[Any] | None:
    if status_coro is not None and not isinstance(status_coro, Coro):
        arguments.wrong_type("status_coro", status_coro, "a Coro, as open_coro() and run() return them")
    return status_coro


def _allocations(given: Iterable[NodeAllocation]) -> tuple[NodeAllocation, ...]:
    allocations = arguments.several("node_allocations", given, "NodeAllocation objects")
    for one in allocations:
        if not isinstance(one, NodeAllocation):
            arguments.wrong_type("node_allocations", one, "NodeAllocation objects")
    return tuple(allocations)
