"""The node: the servers of one machine.

A node owns its template and its seats. Who has which of its servers is with `_leasing`, which it asks and tells.
"""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._errors import PeerDisconnected
from .._scopes import open_background
from .._values import Location
from ..link import Trust
from . import _messages as messages
from ._blocked import Checkups
from ._forks import open_template
from ._leasing import Leasing
from ._seat import Seat, SeatEvents
from ._server_groups import ServerGroups
from ._stacks import NodeStacks
from ._starting import remove_folder, working_folder
from ._stopped import replace_stopped
from ._telling import Telling
from ._users import Users
from ._vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ..link import Endpoint, Link
    from ._forks import Exit, Template
    from ._seat import Server
    from ._starting import StartedNode, StartedTemplate

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
"""After the start: what killed nodes left is looked for when the first jobs do not wait for this one any more."""
_PASSABLE = 0o711
"""Others may go through to a folder of theirs, and see no names."""


class Node:
    """The servers of this machine.

    Attributes:
        location: Where the node listens.
        longest_pulse_interval: The most seconds between two signs of life to a scheduler, whatever that asks for.
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
        started: StartedTemplate | None = None,
    ) -> None:
        self.location: Location = endpoint.location
        self.name: str = endpoint.identity.name
        self.longest_pulse_interval: float = config.MaxPulseInterval
        self._endpoint = endpoint
        self._nursery = nursery
        self._folder = folder
        self._passing: Path | None = folder  # what goes even if this process is killed
        events = SeatEvents(up=self._server_up, gone=self._server_gone, wrote=self._server_wrote)
        self._seats = [Seat(number, endpoint, folder, events) for number in range(1, servers + 1)]
        for seat in self._seats:
            seat.watches_node = not embedded
        for seat in self._seats[1:]:
            seat.after = self._seats[0].started
        checkups = Checkups(self._listening)
        NodeStacks(endpoint, self._listening)
        self._telling = Telling(Vitals(folder, self._listening), self._listening, checkups.blocked)
        self._template: Template | None = None
        self._started = started
        self._leasing = Leasing(endpoint, nursery, self._seats, folder, users)
        services = endpoint.services
        services.on_notice(messages.ServerUp, self._listens, trust=Trust.CHILD)
        services.on_notice(messages.Report, self._reported, trust=Trust.CHILD)
        services.on_notice(messages.PulseSeen, _alive)
        nursery.start_soon(self._leasing.keep_time, name="clock of the leases")
        nursery.start_soon(checkups.run, name="check of the servers")
        nursery.start_soon(replace_stopped, self._seats, self._leasing.pulse_interval, name="watch for stopped servers")

    def hold_servers(self, groups: ServerGroups) -> None:
        """Hold the servers that start from now on to limits, in groups of their own."""
        for seat in self._seats:
            seat.groups = groups

    def leave_files_at(self, dest_path: Path | None) -> None:
        """Keep the working folders of computations that want it; without a place for them, none are kept."""
        for seat in self._seats:
            seat.dest_path = dest_path
        self._passing = self._folder if dest_path is None else None

    @property
    def servers(self) -> list[Location]:
        """Where its servers listen."""
        return [server.location for server in self._listening()]

    def _listening(self) -> list[Server]:
        return [seat.server for seat in self._seats if seat.server is not None and seat.server.up.is_set()]

    @property
    def endpoint(self) -> Endpoint:
        """Its place on the network."""
        return self._endpoint

    @property
    def size(self) -> int:
        """How many servers it keeps."""
        return len(self._seats)

    @property
    def served(self) -> int:
        """How many computations had servers here, and are over."""
        return self._leasing.served

    @property
    def folder(self) -> Path:
        """Where the working folders are."""
        return self._folder

    def rest(self, *, after: int | None = None) -> None:
        """Give servers to no further computation; those that have some keep them.

        Args:
            after: Only once so many computations have had some; None for now.
        """
        if after is None:
            self._leasing.rest()
        self._leasing.serve = after

    async def until_free(self) -> None:
        """Wait until it rests and no computation has servers any more; cancelling the wait changes nothing."""
        await self._leasing.until_free()

    def end_now(self) -> None:
        """End all servers and remove their folders without waiting, for a program that must end at once."""
        if self._template is not None:
            self._template.end_now()
        remove_folder(self._folder)

    async def keep_servers(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all seats taken until cancelled; a template that ends is started again."""
        try:
            while True:
                block = open_template(folder=self._passing, started=self._started)
                self._started = None
                async with block as template, trio.open_nursery() as nursery:
                    self._template = template
                    for seat in self._seats:
                        nursery.start_soon(self._keep_seat, seat, template, name=f"server {seat.number}")
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await template.wait_ended()
                    logger.warning("the template process of the servers ended; another one is started")
        finally:
            self._leasing.close()

    async def _keep_seat(self, seat: Seat, template: Template) -> None:
        try:
            await seat.keep(template)
        except trio.BrokenResourceError:
            await template.wait_ended()

    async def join(self, scheduler: Link) -> None:
        """Offer the servers to a scheduler, and give it signs of life until the connection ends.

        Raises:
            PeerDisconnected: It did not answer.
        """
        welcome = await self._leasing.join(scheduler, self.name)
        interval = min(welcome.pulse_interval, self.longest_pulse_interval)
        self._nursery.start_soon(self._telling.tell, scheduler, interval, name="tell a scheduler")

    # --- servers

    def _listens(self, link: Link, message: messages.ServerUp) -> None:
        for seat in self._seats:
            if seat.server is not None and seat.server.link is link:
                seat.listens(Location(message.addr, message.port))

    def _server_up(self, seat: Seat) -> None:
        if seat.server is not None:
            self._telling.up(seat.server)
        self._leasing.begin(seat)

    def _reported(self, link: Link, report: messages.Report) -> None:
        for seat in self._seats:
            server = seat.server
            if server is not None and server.link is link and server.lease is not None:
                scheduler_id = self._leasing.active(seat, busy=report.running > 0)
                self._telling.reported(scheduler_id, server.lease.computation, server, report)

    def _server_gone(self, _seat: Seat, server: Server, ended: Exit) -> None:
        self._telling.gone(server)
        lease = server.lease
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
                "; ".join(filter(None, (server.reason, server.excess))),
                server.idle,
            )
        )

    def _server_wrote(self, seat: Seat, stream: int, data: bytes) -> None:
        server = seat.server
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


async def _release_output(server: Server, client: Link) -> None:
    with suppress(PeerDisconnected):
        await client.room()
    server.process.release_output()


def _alive(_link: Link, _seen: messages.PulseSeen) -> None:
    """A scheduler has answered a pulse: that the link carried it is all there is to know."""


def processors() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """Keep a node's servers while the block lasts; when it is left, they have ended.

    Args:
        endpoint: Its place on the network.
        servers: How many.
        dest_path: The folder for its working folder, and for those of servers whose computations keep their files.
        embedded: Whether it shares its process with a client, whose code may block the thread; its servers then do
            not take its silence for its end.
        groups: What each server may take, and what holds it to that.
        users: As whom servers run; by default as the node does.
        started: Its folder and template, if they are there already.
    """
    users = users or Users()
    with nullcontext(started.folder) if started else working_folder(dest_path) as folder:
        if users.all:
            os.chmod(folder, _PASSABLE)  # noqa: PTH101 - one call that does not wait
        try:
            async with open_background() as nursery:
                template = started.template if started else None
                node = Node(endpoint, nursery, servers, folder, users=users, embedded=embedded, started=template)
                node.leave_files_at(dest_path)
                node.hold_servers(groups or ServerGroups())
                await nursery.start(node.keep_servers)
                if dest_path is None:
                    nursery.start_soon(_sweep_later, folder.parent, name="sweep of what killed nodes left")
                yield node
        finally:
            with trio.CancelScope(shield=True):
                await users.tidy_all()


async def _sweep_later(parent: Path) -> None:
    await trio.sleep(SWEEP_SECONDS)
    from ._sweeping import sweep  # noqa: PLC0415 - no start waits for it

    # Abandoned, it goes on by itself until it is through or this process ends; either leaves nothing half known.
    await trio.to_thread.run_sync(sweep, parent, abandon_on_cancel=True)
