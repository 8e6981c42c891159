"""The node: the servers of one machine.

A node owns its fork server and its server slots. `_leasing` has the leases of its servers.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import trio

from ..._config import config
from ..._errors import PeerDisconnected
from ..._link import Trust, check_descriptors
from ..._printable import printable
from ..._scopes import open_background
from ..._values import Location
from .. import _messages as messages
from .._details import NodeDetails
from .._facts import Over
from ..fork_server._client import open_fork_server
from ..isolation._out_of_memory import OutOfMemory
from ..isolation._server_groups import ServerGroups
from ..isolation._users import Users
from ..scheduler._stacks import NodeStacks
from ._leasing import Leasing
from ._reports import NodeReports
from ._resource_usage import Vitals
from ._server_slot import ServerSlot, SlotEvents
from ._startup import remove_folder, working_folder
from ._stopped_servers import replace_stopped
from ._unresponsive import Checkups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ..._link import Endpoint, Link
    from ..fork_server._client import Exit, ForkServer
    from ._server_slot import NodeServer
    from ._startup import StartedForkServer, StartedNode

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
"""Seconds after the start at which folders of killed nodes are looked for: not while the first jobs wait to start."""
_FORK_SERVER_PAUSE = 1.0
"""Seconds before the start of a fork server is tried again after a failure."""
_PASSABLE = 0o711
"""Other users may pass through to their own folder, but cannot list this one."""


class Node:
    """The servers of this machine.

    Attributes:
        location: Where the node listens.
        longest_pulse_interval: The most seconds between two heartbeats to a scheduler, whatever the scheduler asks for.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        nursery: trio.Nursery,
        servers: int,
        folder: Path,
        *,
        users: Users,
        embedded: bool = False,
        started: StartedForkServer | None = None,
    ) -> None:
        self.location: Location = endpoint.location
        self.name: str = endpoint.identity.name
        self.longest_pulse_interval: float = config.MaxPulseInterval
        self._endpoint = endpoint
        self._nursery = nursery
        self._folder = folder
        self._passing: Path | None = folder  # removed even if this process is killed
        events = SlotEvents(
            up=self._server_up, gone=self._server_gone, wrote=self._server_wrote, files_stay=self._files_stay
        )
        self._slots = [ServerSlot(number, endpoint, folder, events) for number in range(1, servers + 1)]
        for slot in self._slots:
            slot.watches_node = not embedded
        for slot in self._slots[1:]:
            slot.after = self._slots[0].started
        checkups = Checkups(self._listening)
        NodeStacks(endpoint, self._listening)
        NodeDetails(endpoint, self._listening)
        self._telling = NodeReports(Vitals(folder, self._listening), self._listening, checkups.blocked)
        self._fork_server: ForkServer | None = None
        self._started = started
        self._leasing = Leasing(endpoint, nursery, self._slots, folder, users)
        services = endpoint.services
        services.on_notice(messages.ServerUp, self._listens, trust=Trust.CHILD)
        services.on_notice(messages.Report, self._reported, trust=Trust.CHILD)
        services.on_notice(messages.PulseSeen, _alive)
        nursery.start_soon(self._leasing.keep_time, name="clock of the leases")
        self._memory = OutOfMemory()
        nursery.start_soon(self._memory.run, name="watch for out-of-memory kills")
        nursery.start_soon(checkups.run, name="check of the servers")
        nursery.start_soon(replace_stopped, self._slots, self._leasing.pulse_interval, name="watch for stopped servers")

    def hold_servers(self, groups: ServerGroups) -> None:
        """Limit the servers that start from now on, in control groups of their own."""
        for slot in self._slots:
            slot.groups = groups

    def leave_files_at(self, dest_path: Path | None) -> None:
        """Keep the working folders of computations that ask for it in `dest_path`; without it, none are kept."""
        for slot in self._slots:
            slot.dest_path = dest_path
        self._passing = self._folder if dest_path is None else None

    @property
    def servers(self) -> list[Location]:
        """The Locations of its servers."""
        return [server.location for server in self._listening()]

    def _listening(self) -> list[NodeServer]:
        return [slot.server for slot in self._slots if slot.server is not None and slot.server.up.is_set()]

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of the node."""
        return self._endpoint

    @property
    def size(self) -> int:
        """The number of servers that it keeps."""
        return len(self._slots)

    @property
    def served(self) -> int:
        """The number of computations that had servers here and are over."""
        return self._leasing.served

    @property
    def folder(self) -> Path:
        """The folder of the working folders."""
        return self._folder

    def rest(self, *, after: int | None = None) -> None:
        """Give servers to no further computation; computations that have servers keep them.

        Args:
            after: The number of computations that still get servers before that; None to stop now.
        """
        if after is None:
            self._leasing.rest()
        self._leasing.serve = after

    async def until_free(self) -> None:
        """Wait until no further computation gets servers and none has any; cancelling the wait changes nothing."""
        await self._leasing.until_free()

    async def stop(self) -> None:
        """Stop giving servers; wait until all coroutines here have cleaned up and the servers have ended.

        Clients are notified first and start nothing more here. Running coroutines are lost; jobs may be run elsewhere.
        """
        for slot in self._slots:
            slot.closing = True
        await self._leasing.end_all(Over.STOPPED)

    async def drain(self, within: float | None = None) -> None:
        """Give servers to no further computation, and wait until no coroutine runs here.

        Clients are notified first and start nothing more here. Jobs with retries move to other nodes at once.

        Args:
            within: Seconds after which running coroutines are cancelled and clean up; None for no limit.

        Cancelling only stops the wait: no computation gets servers all the same.
        """
        await self._leasing.drain_all(within)

    def end_now(self) -> None:
        """Kill all servers and remove their folders without waiting, for a program that must end at once."""
        if self._fork_server is not None:
            self._fork_server.end_now()
        remove_folder(self._folder)

    async def keep_servers(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a server in every server slot until cancelled; a fork server that ends is replaced."""
        try:
            while True:
                block = open_fork_server(folder=self._passing, started=self._started)
                self._started = None
                try:
                    async with block as fork_server, trio.open_nursery() as nursery:
                        self._fork_server = fork_server
                        for slot in self._slots:
                            nursery.start_soon(self._keep_slot, slot, fork_server, name=f"server {slot.number}")
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        await fork_server.wait_ended()
                        logger.warning("the fork server ended; starting another one")
                except OSError as error:  # no free descriptor or process
                    if self._fork_server is None:
                        raise
                    logger.warning("the fork server cannot be started; trying again: %s", error)
                    await trio.sleep(_FORK_SERVER_PAUSE)
        finally:
            self._leasing.close()

    async def _keep_slot(self, slot: ServerSlot, fork_server: ForkServer) -> None:
        try:
            await slot.keep(fork_server)
        except trio.BrokenResourceError:
            await fork_server.wait_ended()

    async def join(self, scheduler: Link) -> None:
        """Offer the servers to a scheduler, and send it heartbeats until the connection ends.

        Raises:
            PeerDisconnected: It did not answer.
        """
        welcome = await self._leasing.join(scheduler, self.name)
        interval = min(welcome.pulse_interval, self.longest_pulse_interval)
        served = [
            slot.server
            for slot in self._slots
            if slot.server is not None and self._leasing.scheduler_of(slot) == scheduler.peer.process_id
        ]
        self._nursery.start_soon(self._telling.tell, scheduler, interval, served, name="report to a scheduler")

    # --- servers

    def _listens(self, link: Link, message: messages.ServerUp) -> None:
        for slot in self._slots:
            if slot.server is not None and slot.server.link is link:
                slot.listens(Location(message.addr, message.port))

    def _server_up(self, slot: ServerSlot) -> None:
        if slot.server is not None:
            self._telling.up(slot.server)
        self._leasing.begin(slot)

    def _reported(self, link: Link, report: messages.Report) -> None:
        for slot in self._slots:
            server = slot.server
            if server is not None and server.link is link and server.lease is not None:
                scheduler_id = self._leasing.active(slot, busy=report.running > 0)
                self._telling.reported(scheduler_id, server.lease.computation, server, report)

    def _server_gone(self, slot: ServerSlot, server: NodeServer, ended: Exit) -> None:
        causes = [server.reason, server.excess]
        if ended.signal == signal.SIGKILL and not any(causes):
            causes = [self._memory.cause(server.process.pid)]
        reason = "; ".join(filter(None, causes))
        how = f"by signal {ended.signal}" if ended.signal is not None else f"with exit status {ended.exitcode}"
        self._telling.gone(server, reason or f"its server ended {how}")
        lease = server.lease
        if not (slot.closing or server.idle or (lease is not None and lease.ending is not None)):
            of = "" if lease is None else f" of the computation {printable(lease.terms.name)}"
            logger.info("server %d%s ended %s and is replaced%s", slot.number, of, how, f": {reason}" if reason else "")
        if lease is None or lease.client is None:
            return
        lease.client.notify(
            messages.ServerGone(
                lease.computation,
                server.process_id,
                server.location.addr,
                server.location.port,
                ended.exitcode,
                ended.signal,
                ended.stderr_tail,
                reason,
                server.idle,
            )
        )

    def _files_stay(self, server: NodeServer) -> None:
        self._telling.files_stay(server)

    def _server_wrote(self, slot: ServerSlot, stream: int, data: bytes) -> None:
        server = slot.server
        lease = server.lease if server is not None else None
        if server is None or lease is None or lease.client is None or lease.prepared is None:
            return
        if not lease.prepared.forward_output or lease.client.lost:
            return
        addr, port = server.location.addr, server.location.port
        lease.client.notify(messages.ServerWrote(lease.computation, server.process_id, addr, port, stream, data))
        if lease.client.full:
            server.process.hold_output()
            self._nursery.start_soon(_release_output, server, lease.client)


async def _release_output(server: NodeServer, client: Link) -> None:
    with suppress(PeerDisconnected):
        await client.room()
    server.process.release_output()


def _alive(_link: Link, _seen: messages.PulseSeen) -> None:
    """Ignore a scheduler's answer to a heartbeat: its arrival on the link is all that matters."""


@asynccontextmanager
async def serve_node(
    endpoint: Endpoint,
    *,
    servers: int,
    dest_path: Path | None = None,
    embedded: bool = False,
    groups: ServerGroups | None = None,
    users: Users | None = None,
    started: StartedNode | None = None,
) -> AsyncIterator[Node]:
    """Run a node while the block lasts; when the block is left, its servers have ended.

    Args:
        endpoint: The node's endpoint.
        servers: The number of servers.
        dest_path: The folder for its working folder, and for the files of computations that keep them.
        embedded: Whether it shares its process with a client, whose code may block the thread; its servers then do
            not end when the node is silent.
        groups: The control groups and limits of the servers.
        users: The users that servers run as; by default the node's own user.
        started: The node's folder and fork server, if they already exist.
    """
    users = users or Users()
    check_descriptors(servers)
    with nullcontext(started.folder) if started else working_folder(dest_path) as folder:
        if users.all:
            os.chmod(folder, _PASSABLE)  # noqa: PTH101 - one call that does not wait
        try:
            async with open_background(shielded=True) as nursery:
                fork_server = started.fork_server if started else None
                node = Node(endpoint, nursery, servers, folder, users=users, embedded=embedded, started=fork_server)
                node.leave_files_at(dest_path)
                node.hold_servers(groups or ServerGroups())
                await nursery.start(node.keep_servers)
                if dest_path is None:
                    nursery.start_soon(_sweep_later, folder.parent, name="sweep of folders of killed nodes")
                try:
                    yield node
                finally:
                    with trio.CancelScope(shield=True):
                        await node.stop()
        finally:
            with trio.CancelScope(shield=True):
                await users.tidy_all()


async def _sweep_later(parent: Path) -> None:
    await trio.sleep(SWEEP_SECONDS)
    from ._stale_folders import sweep  # noqa: PLC0415 - no start waits for it

    # If it is abandoned, the thread goes on until it is done or this process ends; both leave a consistent state.
    await trio.to_thread.run_sync(sweep, parent, abandon_on_cancel=True)
