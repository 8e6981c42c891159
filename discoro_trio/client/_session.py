"""One scheduled computation, from the queue to its close: its nodes, its servers, what runs there.

A session owns the links to its servers and the tasks that set them up and bury them. What users call is
`Computation`; where a coroutine goes is decided by `Placement`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .._errors import ComputationClosed, DiscoroError, PeerDisconnected, ServerLost
from .._values import Location
from ..cluster import messages
from ..process import lose_all
from ..wire import Credential
from ._placement import Placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..link import Link
    from ..process import Call, Coro, Host, Process, Started
    from ..wire import Control, Shipped

logger = logging.getLogger(__name__)

# Seconds for the last bytes of a server that its node reports as ended.
_LAST_BYTES = 1.0


@attrs.frozen
class SetUp:
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


@attrs.define(eq=False)
class Node:
    """A node whose servers the computation has."""

    node_id: bytes
    name: str
    location: Location
    link: Link


@attrs.define(eq=False)
class Server:
    """A server of the computation."""

    server_id: bytes
    node_id: bytes
    location: Location
    host: Host
    session: Session
    gone: trio.Event = attrs.Factory(trio.Event)
    """Set when its node has said how it ended."""
    word: messages.ServerGone | None = None
    """What the node said."""

    def ended(self, _started: Started) -> None:
        """One of its coroutines has ended."""
        self.session.placement.change(self.server_id, -1)

    def host_lost(self) -> None:
        """The connection to it is lost."""
        self.session.server_lost(self)

    async def force(self, started: Started, grace_period: float | None) -> None:
        """End a cancelled coroutine by force after its grace period."""
        await self.session.force(started, grace_period)


class Session:
    """A computation that is queued or runs."""

    def __init__(self, process: Process, nursery: trio.Nursery, set_up: SetUp) -> None:
        self.set_up = set_up
        self.placement = Placement()
        self.nodes: dict[bytes, Node] = {}
        self.servers: dict[bytes, Server] = {}
        self.turn = trio.Event()
        self.closed = False
        self.scheduler: Link | None = None
        self._process = process
        self._nursery = nursery
        self._changed = trio.lowlevel.ParkingLot()

    # --- what nodes and scheduler say

    def heard(self, link: Link, message: Control) -> None:
        """Act on a notice about this computation."""
        if isinstance(message, messages.TurnCame):
            self.turn.set()
        elif self.closed:
            return
        elif isinstance(message, messages.Leased):
            self._nursery.start_soon(self._prepare, message, name=f"set up {message.node_name}")
        elif isinstance(message, messages.ServerReady):
            self._nursery.start_soon(self._attach, message, name="attach to a server")
        elif isinstance(message, messages.ServerGone):
            self._server_gone(message)
        elif isinstance(message, messages.ServerFailed):
            logger.error("%s could not be set up", message.name)

    async def _prepare(self, leased: messages.Leased) -> None:
        set_up = self.set_up
        location = Location(leased.addr, leased.port)
        self._process.endpoint.credentials[set_up.computation] = Credential(set_up.computation, leased.key)
        try:
            link = await self._process.endpoint.link_to(leased.node_id, location, b"")
            self.nodes[leased.node_id] = Node(leased.node_id, leased.node_name, location, link)
            prepare = messages.Prepare(
                set_up.computation,
                set_up.package,
                [],
                [],
                set_up.grace_period,
                set_up.threads,
                set_up.forward_output,
                set_up.cleanup,
            )
            await link.request(prepare)
        except DiscoroError as error:
            logger.warning("the servers of %s cannot be used: %s", leased.node_name, error)
            self.nodes.pop(leased.node_id, None)

    async def _attach(self, ready: messages.ServerReady) -> None:
        location = Location(ready.addr, ready.port)
        try:
            link = await self._process.endpoint.link_to(ready.server_id, location, self.set_up.computation)
            host = await self._process.starts.host(link, self.set_up.shipped)
        except DiscoroError as error:
            logger.warning("the server at %s cannot be used: %s", location, error)
            return
        server = Server(ready.server_id, ready.node_id, location, host, self)
        host.owner = server
        self.servers[server.server_id] = server
        self.placement.add(server.node_id, server.server_id)
        self._changed.unpark_all()

    # --- servers that end

    def _server_gone(self, word: messages.ServerGone) -> None:
        server = self.servers.get(word.server_id)
        if server is not None:
            server.word = word
            server.gone.set()
            self._nursery.start_soon(self._await_last_bytes, server)

    async def _await_last_bytes(self, server: Server) -> None:
        # What the server sent before its end may still be on the way: it counts.
        with trio.move_on_after(_LAST_BYTES):
            await server.host.link.ended.wait()
        server.host.link.fail(PeerDisconnected("its node says that it has ended"))

    def server_lost(self, server: Server) -> None:
        """Note that the connection to a server is lost; its node says how it ended."""
        self.placement.remove(server.server_id)
        self._nursery.start_soon(self._bury, server, name=f"bury the server at {server.location}")

    async def _bury(self, server: Server) -> None:
        node = self.nodes.get(server.node_id)
        with trio.move_on_after(5 * self.set_up.pulse_interval):
            if node is not None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when, server.gone, nursery.cancel_scope)
                    nursery.start_soon(_cancel_when, node.link.ended, nursery.cancel_scope)
        self.servers.pop(server.server_id, None)
        lose_all(server.host, _server_lost(server))

    def link_lost(self, link: Link) -> None:
        """Note that a node, or the scheduler, cannot be reached any more."""
        for node in list(self.nodes.values()):
            if node.link is link:
                del self.nodes[node.node_id]

    # --- starting

    def handle(self, started: Started, location: Location) -> Coro[Any]:
        """Make the handle of a coroutine that this session started."""
        return self._process.handle_to(started, location, self.set_up.computation)

    def check_open(self) -> None:
        """Raise ComputationClosed if nothing can be started any more."""
        if self.closed:
            message = "the computation is closed; it runs nothing more"
            raise ComputationClosed(message)

    async def until_changed(self) -> None:
        """Wait until a server has come or the computation is closed."""
        await self._changed.park()

    async def start(self, function: Callable[..., Any], call: Call, *, acknowledge: bool = False) -> Started:
        """Start a coroutine at the least loaded server of the least loaded node, waiting while there is none."""
        started = self.start_now(function, call, acknowledge=acknowledge)
        while started is None:
            await self.until_changed()
            started = self.start_now(function, call, acknowledge=acknowledge)
        return started

    def start_now(self, function: Callable[..., Any], call: Call, *, acknowledge: bool = False) -> Started | None:
        """Start a coroutine as `start` does; None if there is no server at the moment."""
        if self.closed:
            self.check_open()
        server_id = self.placement.least()
        while server_id is not None:
            server = self.servers[server_id]
            if not server.host.link.lost:
                return self.start_on(server, function, call, acknowledge=acknowledge)
            self.placement.remove(server_id)
            server_id = self.placement.least()
        return None

    def start_on(
        self, server: Server, function: Callable[..., Any], call: Call, *, acknowledge: bool = False
    ) -> Started:
        """Start a coroutine at a server; never waits."""
        started = server.host.start(function, call, acknowledge=acknowledge)
        self.placement.change(server.server_id, 1)
        return started

    # --- ending

    def cancel(self, started: Started, reason: str | None = None) -> None:
        """Ask for the cancellation of a coroutine."""
        server = self.servers.get(started.home)
        if server is not None:
            server.host.cancel(started, reason)

    async def cancel_and_wait(self, all_started: Iterable[Started], reason: str | None = None) -> None:
        """Cancel coroutines and wait, shielded, until their clean-up is done or was cut short by force."""
        pending = [started for started in all_started if started.outcome is None]
        for started in pending:
            self.cancel(started, reason)
        with trio.CancelScope(shield=True):
            with trio.move_on_after(self.set_up.grace_period):
                for started in pending:
                    await started.until_ended()
            late = [started for started in pending if started.outcome is None]
            for server_id in {started.home for started in late}:
                await self.replace(server_id, "a cancelled coroutine did not end in its grace period")
            for started in late:
                await started.until_ended()

    async def force(self, started: Started, grace_period: float | None) -> None:
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
            await node.link.request(messages.Replace(self.set_up.computation, server_id, reason))
        except DiscoroError as error:
            logger.warning("a server at %s was not replaced: %s", node.location, error)

    async def close(self) -> None:
        """Run nothing more; wait, shielded, until all coroutines have cleaned up and the servers have ended."""
        if self.closed:
            return
        self.closed = True
        self._changed.unpark_all()
        for server in self.servers.values():
            lose_all(server.host, ComputationClosed("the computation was closed"))
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for node in self.nodes.values():
                    nursery.start_soon(self._release, node)
            if self.scheduler is not None:
                self.scheduler.notify(messages.Withdraw(self.set_up.computation))
        self._process.endpoint.credentials.pop(self.set_up.computation, None)

    async def _release(self, node: Node) -> None:
        longest = self.set_up.grace_period + 5 * self.set_up.pulse_interval
        try:
            await node.link.request(messages.Release(self.set_up.computation), timeout=longest)
        except DiscoroError as error:
            logger.warning("%s did not confirm the end of the computation: %s", node.name, error)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _server_lost(server: Server) -> ServerLost:
    word = server.word
    if word is None:
        return ServerLost(
            f"the server at {server.location} cannot be reached any more, nor its node", location=server.location
        )
    how = f"by signal {word.signal}" if word.signal is not None else f"with exit status {word.exitcode}"
    why = f" ({word.reason})" if word.reason else ""
    tail = f"; it wrote last:\n{word.stderr_tail}" if word.stderr_tail else ""
    return ServerLost(
        f"the server at {server.location} ended {how}{why}{tail}",
        location=server.location,
        exitcode=word.exitcode,
        signal=word.signal,
        stderr_tail=word.stderr_tail,
    )

