"""Adds nodes and servers to a computation and removes them.

This module owns the tasks that set nodes up, open the links to servers and remove servers that end. `Topology` picks
servers; the session owns the coroutines there.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import trio

from .._cluster import messages
from .._config import PULSES
from .._errors import DiscoroError, FileTransferError, PeerDisconnected
from .._link import ConnectionRefused, answered
from .._process import OfferFile, lose_all
from .._shipping import unpack_error
from .._shipping._versions import differences, imported_packages, python_version
from .._status import Status
from .._values import Location
from .._wire import Credential, ProcessEnded
from ._server import LeasedServer
from ._topology import COMPONENTS, LeasedNode, SetUpFailure

if TYPE_CHECKING:
    from .._link import Link
    from .._process import Process
    from .._wire import Control
    from ._session import Session

logger = logging.getLogger(__name__)

# Seconds to wait for the last bytes of a server that its node reports as ended.
_LAST_BYTES = 1.0
# Seconds to wait for the node's report after the link to a server is lost.
_EXIT_REPORT = 1.0
# If a server's node is gone: seconds to wait for its host to answer whether the server is, too.
_PROBE = 2.0


class Membership:
    """Adds and removes the nodes and servers of one session."""

    def __init__(self, session: Session, process: Process, nursery: trio.Nursery) -> None:
        self._session = session
        self._process = process
        self._nursery = nursery
        self._stopped = False
        self._own: set[str] = set()
        """The addresses of present and former nodes of this computation."""
        self._leased: set[bytes] = set()
        """The ids of the nodes that the scheduler has named."""
        self._packages: dict[str, str] | None = None
        """The packages that the program imports, with their versions."""
        self._skew: dict[str, list[str]] = {}
        """How nodes differ from this program, with their names."""
        self._closing: list[LeasedNode] = []
        """Nodes that have closed while some of their servers are not yet reported as ended."""

    def is_node(self, link: Link) -> bool:
        """Return whether the peer of a link is, or was, a node of this computation."""
        return link.peer.process_id in self._leased

    def stop(self) -> None:
        """Start no more tasks, because the session is over."""
        self._stopped = True

    def heard(self, link: Link, message: Control) -> None:
        """Act on a message of a node, or of the scheduler about a node."""
        if isinstance(message, messages.Leased):
            self._leased.add(message.node_id)
            self._nursery.start_soon(self._prepare, message, name=f"set up {message.node_name}")
        elif isinstance(message, messages.ServerReady):
            self._nursery.start_soon(self._attach, message, name="attach to a server")
        elif isinstance(message, messages.ServerGone):
            self._gone(link, message)
        elif isinstance(message, messages.ServerFailed):
            self._failed(message)
        elif isinstance(message, messages.LeaseEnded):
            self._lease_ended(message.node_id)
        elif isinstance(message, messages.News):
            self._news(message)

    def _news(self, news: messages.News) -> None:
        """Pass on the scheduler's messages, except ends of nodes that this process detects itself."""
        status = Status(news.status)
        if status is Status.NodeDiscovered and not any(
            node.location.addr == news.addr for node in self._session.nodes.values()
        ):
            self._own.discard(news.addr)  # another node may use that address now
        if status in {Status.NodeClosed, Status.NodeDisconnected} and news.addr in self._own:
            return
        self._session.status.tell(status, Location(news.addr, news.port) if news.port else news.addr)

    # --- nodes that leave

    def node_leaves(self, node_id: bytes, *, finishes: bool) -> None:
        """Start no more coroutines at a node whose servers are about to end in order.

        Args:
            node_id: The node.
            finishes: Whether coroutines there may finish; jobs with retries move to other nodes in any case.
        """
        node = self._session.nodes.get(node_id)
        if node is None:
            return
        node.leaving = True
        servers = self._servers_of(node)
        for server in servers:
            self._session.topology.withdraw(server)
        if finishes:
            for move in list(self._session.movers):
                move({server.server_id for server in servers})
        self._session.changed()

    def _lease_ended(self, node_id: bytes) -> None:
        node = self._session.nodes.get(node_id)
        if node is not None:
            self._closed(node)

    def link_lost(self, link: Link) -> None:
        """Note that a node has closed its link, or cannot be reached any more."""
        for node in list(self._session.nodes.values()):
            if node.link is not link:
                continue
            if link.orderly:
                self._closed(node)
            else:
                self._session.topology.left(node.node_id)
                for server in self._servers_of(node):  # the node ends them, as it has lost its client
                    self._session.topology.withdraw(server)
                self._session.status.tell(Status.NodeDisconnected, node.location.addr)
                self._session.changed()

    def _closed(self, node: LeasedNode) -> None:
        """Note that a node has given its servers back; status reports it after the last of them."""
        self._session.topology.left(node.node_id)
        if self._servers_of(node):
            self._closing.append(node)
        else:
            self._session.status.tell(Status.NodeClosed, node.location.addr)
        self._session.changed()

    def _servers_of(self, node: LeasedNode) -> list[LeasedServer]:
        return [server for server in self._session.servers.values() if server.node_id == node.node_id]

    # --- nodes

    def turn_came(self) -> None:
        """Ask the scheduler which nodes to wait for."""
        self._nursery.start_soon(self._ask_nodes, name="ask for the nodes")

    async def _ask_nodes(self) -> None:
        session = self._session
        nodes: list[bytes] = []
        try:
            if session.scheduler is not None:
                reply = await session.scheduler.request(
                    messages.AskNodes(session.set_up.computation), timeout=session.timeout
                )
                reply = answered(reply, messages.NodesAre)
                nodes = reply.nodes
        except DiscoroError as error:
            logger.debug("the scheduler did not report its nodes: %s", error)
        session.topology.told(nodes)
        session.changed()

    async def _compare_versions(self, node: LeasedNode) -> None:
        """Warn once of each difference between this program and its nodes that may make jobs fail."""
        session = self._session
        if self._packages is None:
            self._packages = await trio.to_thread.run_sync(imported_packages)
        here = self._packages
        try:
            reply = await node.link.request(messages.AskVersions(list(here)), timeout=session.timeout)
            there = answered(reply, messages.VersionsAre)
        except DiscoroError as error:
            logger.debug("the versions at %s are not known: %s", node.name, error)
            return
        found = differences(here, there.packages, python=(python_version(), there.python))
        if not found:
            return
        nodes = self._skew.setdefault(found, [])
        nodes.append(node.name)
        if len(nodes) == 1:
            logger.warning("the node %s differs from this program, so jobs may fail there: %s", node.name, found)
        if session.scheduler is not None and not session.scheduler.lost:
            lines = [f"{_first_of(names)}: {text}" for text, names in self._skew.items()]
            session.scheduler.notify(messages.Skew(session.set_up.computation, lines))

    async def _prepare(self, leased: messages.Leased) -> None:
        session, set_up = self._session, self._session.set_up
        location = Location(leased.addr, leased.port)
        self._process.endpoint.credentials[set_up.computation] = Credential(set_up.computation, leased.key)
        try:
            link = await self._process.endpoint.reach.link_to(
                leased.node_id, location, b"", via=session.scheduler, timeout=session.timeout
            )
            node = session.nodes.get(leased.node_id)
            if node is None or node.link is not link:
                node = LeasedNode(leased.node_id, leased.node_name, location, link)
                session.topology.came(node)
                self._nursery.start_soon(self._watch, node, name=f"heartbeats of {node.name}")
                self._own.add(location.addr)
            if node.node_id != self._process.id:
                self._nursery.start_soon(self._compare_versions, node, name=f"compare the versions of {node.name}")
            if not await self._takes_files(node):
                return
            await session.shared.put_all(node)
            # During a transfer, the node detects when bytes stop, and heartbeats detect whether the node is alive.
            timeout = None if set_up.streams else session.timeout
            try:
                prepared = answered(await link.request(set_up.prepare(), timeout=timeout), messages.Prepared)
            except FileTransferError as error:
                await self._refused(node, error)
                return
            if not (prepared.keeps_files or set_up.cleanup):
                logger.warning(
                    "cleanup=False: the node %s keeps no files, as it was started without dest_path", node.name
                )
            node.slots = prepared.servers
            self._check_number(node, prepared.servers)
            node.had_first()
            session.status.tell(Status.NodeInitialized, location.addr)
        except DiscoroError as error:
            if not session.closed:
                logger.warning("the servers of %s cannot be used: %s", leased.node_name, error)
            session.topology.left(leased.node_id)
        session.changed()

    async def _watch(self, node: LeasedNode) -> None:
        """Send a node a heartbeat in each interval; a node that does not answer five of them is gone.

        Intervals are counted, not seconds: while this process does not run, at most one interval passes.
        """
        interval = self._session.set_up.pulse_interval
        unanswered = 0
        while node.node_id != self._process.id and not node.link.lost:
            asked = trio.current_time()
            try:
                with trio.fail_after(interval):
                    await node.link.request(messages.AreYouThere(), timeout=None)
            except trio.TooSlowError:
                unanswered += 1
            except DiscoroError:
                return  # the connection is lost; the link reports that
            else:
                unanswered = 0
                await trio.sleep_until(asked + interval)
            if unanswered >= PULSES - 1:  # one more interval has passed since the last answer
                node.link.fail(PeerDisconnected(f"the node has not answered for {PULSES * interval:g} s"))

    def _check_number(self, node: LeasedNode, servers: int) -> None:
        """Warn that a node has fewer servers than its allocation requests."""
        for one in self._session.allocations:
            if any(fnmatchcase(name, one.node) for name in (node.name, node.location.addr)):
                if one.cpus is not None and one.cpus > servers:
                    logger.warning(
                        "NodeAllocation(%r, cpus=%d) gets %d servers at the node %s, which offers no more",
                        one.node,
                        one.cpus,
                        servers,
                        node.name,
                    )
                return

    async def _takes_files(self, node: LeasedNode) -> bool:
        """Ask a node whether it accepts the largest file, before any is sent; give its servers back if not."""
        name, size = self._session.set_up.largest
        if not size:
            return True
        try:
            await node.link.request(OfferFile(name, size), timeout=self._session.timeout)
        except FileTransferError as error:
            await self._refused(node, error)
            return False
        return True

    async def _refused(self, node: LeasedNode, error: FileTransferError) -> None:
        """Give back all servers of a node that does not accept the files."""
        failure = SetUpFailure(COMPONENTS, node.name, error)
        node.refuse(failure)
        logger.error("%s; none of the servers of this node is used", failure)
        self._session.status.tell(Status.NodeIgnore, node.location.addr)
        self._session.changed()
        await node.link.request(messages.Release(self._session.set_up.computation))

    def _failed(self, message: messages.ServerFailed) -> None:
        """Leave a server, or its whole node, unused."""
        node = self._session.nodes.get(message.node_id)
        if node is None:
            return
        body, *buffers = message.error
        self._session.status.tell(Status.ServerIgnore, Location(message.addr, message.port))
        place = f"{message.name} ({Location(message.addr, message.port)})"
        failure = SetUpFailure(message.stage, place, unpack_error(body, buffers))
        logger.error("%s; %s", failure, node.fail(message.slot, message.server_id, failure), exc_info=failure.error)
        self._session.changed()

    # --- servers that join

    async def _attach(self, ready: messages.ServerReady) -> None:
        session = self._session
        location = Location(ready.addr, ready.port)
        session.status.tell(Status.ServerDiscovered, location)
        node = session.nodes.get(ready.node_id)
        via = None if node is None else node.link
        reach = self._process.endpoint.reach
        try:
            link = await reach.link_to(
                ready.server_id, location, session.set_up.computation, via=via, timeout=session.timeout
            )
            host = await self._process.starts.host(link, session.set_up.shipped, timeout=session.timeout)
        except DiscoroError as error:
            await self._unreachable(ready, location, error)
        else:
            server = LeasedServer(ready.server_id, ready.node_id, ready.slot, location, host, session)
            host.owner = server
            session.topology.add(server)
            if node is not None and node.leaving:
                session.topology.withdraw(server)
            session.status.tell(Status.ServerInitialized, location)
            if session.set_up.forward_output:
                session.display.add(server.server_id, location, link)
        session.changed()

    async def _unreachable(self, ready: messages.ServerReady, location: Location, error: DiscoroError) -> None:
        """Leave a server unused and have its node replace it, after a pause: the next one may be unreachable, too."""
        session = self._session
        if session.closed:
            return
        logger.warning("the server at %s cannot be used: %s", location, error)
        node = session.nodes.get(ready.node_id)
        if node is None:
            return
        node.had_first(ready.server_id)
        session.changed()
        await trio.sleep(session.set_up.pulse_interval)
        with suppress(DiscoroError):
            await node.link.request(
                messages.Replace(session.set_up.computation, ready.server_id, "its client could not reach it")
            )

    # --- servers that end

    def _gone(self, link: Link, word: messages.ServerGone) -> None:
        server = self._session.servers.get(word.server_id)
        if server is not None:
            server.word = word
            server.gone.set()
            self._nursery.start_soon(self._await_last_bytes, server)
            return
        for node in self._session.nodes.values():
            if node.link is link:
                node.had_first(word.server_id)
                self._session.changed()

    async def _await_last_bytes(self, server: LeasedServer) -> None:
        # Bytes that the server sent before its end may still arrive: they count.
        with trio.move_on_after(_LAST_BYTES):
            await server.host.link.until_interrupted()
        server.host.link.fail(PeerDisconnected("its node reports that it has ended"))

    def lost(self, server: LeasedServer) -> None:
        """Note that the connection to a server is lost; its node reports how it ended."""
        self._session.topology.withdraw(server)
        if self._stopped or self._session.closed:
            return  # the end of the computation decides the outcomes of coroutines there
        self._nursery.start_soon(self._bury, server, name=f"bury the server at {server.location}")

    async def _bury(self, server: LeasedServer) -> None:
        session = self._session
        node = session.nodes.get(server.node_id)
        replaced = False
        if node is not None:
            await _until_reported(server, node, _EXIT_REPORT)
            if server.word is None and not node.link.lost:
                # It is alive but unreachable: a replacement may be reachable. Until then its
                # coroutines do not count as lost.
                replaced = True
                await session.replace(server.server_id, "its client could not reach it")
                await _until_reported(server, node, PULSES * session.set_up.pulse_interval)
        if server.word is None:
            await self._probe(server)
        if server.closed_idle:
            started = server.host.started
            refused = [one for one in started.values() if one.call is not None]
            for one in refused:
                del started[one.serial]
            session.start_again(refused)
        wanted = server.word is not None and server.word.reason and not replaced
        session.status.tell(Status.ServerClosed if wanted else Status.ServerDisconnected, server.location)
        self._forget(server)

    async def _probe(self, server: LeasedServer) -> None:
        """Find out, by asking its host, whether a server has ended about which its node reports nothing."""
        realm = self._session.set_up.computation
        with trio.move_on_after(_PROBE):
            while not server.refused:
                try:
                    await self._process.endpoint.link_to(server.server_id, server.location, realm, timeout=_PROBE)
                except (ConnectionRefused, ProcessEnded):
                    server.refused = True
                except DiscoroError as error:  # it may be about to end
                    logger.debug("whether the server at %s has ended is not known: %s", server.location, error)
                    await trio.sleep(_PROBE / 10)
                else:
                    return

    def _forget(self, server: LeasedServer) -> None:
        self._session.topology.remove(server)
        for node in [one for one in self._closing if not self._servers_of(one)]:
            self._closing.remove(node)
            self._session.status.tell(Status.NodeClosed, node.location.addr)
        self._session.display.remove(server.server_id)
        lose_all(server.host, server.loss())
        self._process.mail.process_ended(server.server_id)
        for other in self._session.servers.values():
            other.host.link.notify(messages.ServerEnded(server.server_id))
        for journal in self._session.journals:
            journal.server_gone(server)
        self._session.changed()


def _first_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


async def _until_reported(server: LeasedServer, node: LeasedNode, seconds: float) -> None:
    """Wait until a node has reported how its server ended, or is unreachable itself, or the time is over."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, server.gone, nursery.cancel_scope)
            nursery.start_soon(_cancel_when, node.link.ended, nursery.cancel_scope)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
