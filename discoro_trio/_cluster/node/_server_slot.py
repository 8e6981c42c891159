"""One server slot of a node: a server, and its replacement when it ends.

A server slot owns a server process from the fork to its end, its working folder and its link. It always has one server
that runs or is being started. `_holding` has the computation that it belongs to.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._config import config
from ..._link import EndpointOptions, Trust, is_everywhere
from ..._printable import printable
from ..._process import files_of
from ..._records import MutableRecord
from ..._values import Location
from ..._wire import PeerIdentity
from ..isolation._server_groups import ServerGroups
from ._kept_files import leave_if_used
from ._server_spec import ServerSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ..._link import Endpoint, Link
    from ..._wire import Control
    from ..fork_server._client import Exit, ForkServer, ServerProcess
    from ..isolation._server_groups import ServerGroup
    from ._lease import Lease

logger = logging.getLogger(__name__)

# Seconds. A server that ends this soon after its start is replaced after a pause, which grows up to the longest.
_SHORT_LIFE, _FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 0.05, 5.0
DETACHED_SECONDS = 1.0
"""Seconds that a server process may run without its connection to the node before it is killed."""
_PF_EXITING = 0x4
"""The kernel's flag of a process that ends; see sched.h of Linux."""
LONGEST_START = 5.0
"""The most seconds that the other servers of a node wait for its first one."""


class NodeServer:
    """One server process of a server slot."""

    def __init__(self, process_id: bytes, process: ServerProcess, link: Link, folder: Path) -> None:
        self.process_id = process_id
        self.process = process
        self.link = link
        self.folder = folder
        self.kept = False
        """Whether its folder is kept when it ends."""
        self.stack_file = _stack_file(folder)
        self.dumping = trio.Lock()
        """Held while its stack is written."""
        self.location = Location("", 0)
        self.up = trio.Event()
        self.lease: Lease | None = None
        """The lease that it has been set up for; a server serves only one lease."""
        self.idle = False
        """Whether it closed because it was idle."""
        self.reason = ""
        """Why this node ended it; empty if it did not."""
        self.gone = trio.Event()
        """Set when it has ended and its end was reported."""
        self.excess = ""
        """The limits that it reached, if its control groups show any."""

    async def request(self, message: Control) -> Control:
        """Send the server a request; user code may run before it answers, so there is no time limit."""
        return await self.link.request(message, timeout=None)

    def kill(self, reason: str) -> None:
        """Kill it at once, with all processes that it started."""
        self.reason = self.reason or reason
        self.process.kill()


class SlotEvents(MutableRecord):
    """The events that a server slot reports to its node."""

    up: Callable[[ServerSlot], None]
    """A fresh server listens."""
    gone: Callable[[ServerSlot, NodeServer, Exit], None]
    """The server has ended."""
    files_stay: Callable[[NodeServer], None]
    """The server works in a folder that is kept when it ends."""
    wrote: Callable[[ServerSlot, int, bytes], None]
    """The server has written to its standard output (1) or standard error (2)."""


class ServerSlot:
    """The node's place for one server process, kept across replacements."""

    def __init__(self, number: int, endpoint: Endpoint, parent: Path, events: SlotEvents) -> None:
        self.number = number
        self.server: NodeServer | None = None
        self.watches_node = True
        """Whether servers end when this node is silent; False if the node is in the client, whose thread may block."""
        self.dest_path: Path | None = None
        """The folder for working folders that a computation keeps; None if none are kept."""
        self.groups = ServerGroups()
        """Makes the control groups of its servers."""
        self.started = trio.Event()
        """Set once its first server listens, or has ended."""
        self.closing = False
        """Whether its server is not replaced any more."""
        self.after: trio.Event | None = None
        """The event that its first server waits for, so that another server has the processors for its start."""
        self._endpoint = endpoint
        self._parent = parent
        self._events = events
        self._pause = 0.0
        self._problem = ""
        """Why no server can be started, if the reason was logged."""

    async def keep(self, fork_server: ForkServer) -> None:
        """Keep a server running until cancelled, or until the fork server ends."""
        if self.after is not None:
            with trio.move_on_after(LONGEST_START):
                await self.after.wait()
        while not self.closing:
            born = trio.current_time()
            try:
                await self._live(fork_server)
                self._problem = ""
            except OSError as error:  # no free descriptor, process or disk space
                self._cannot_start(error)
            if trio.current_time() - born < _SHORT_LIFE and self._pause:
                await trio.sleep(self._pause)

    def _cannot_start(self, error: OSError) -> None:
        self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
        if str(error) != self._problem:
            self._problem = str(error)
            logger.warning("server %d cannot be started; trying again: %s", self.number, error)

    async def _live(self, fork_server: ForkServer) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"server-{self.number}-", dir=self._parent))
        try:
            async with self.groups.open() as group:
                await self._run_server(fork_server, folder, group)
        finally:
            self.started.set()
            server, self.server = self.server, None
            _stack_file(folder).unlink(missing_ok=True)
            if server is not None and server.kept:
                leave_if_used(server.folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)

    async def _run_server(self, fork_server: ForkServer, folder: Path, group: ServerGroup) -> None:
        spec = self._spec(folder, group)
        interval = config.MinPulseInterval if self.watches_node else 0.0
        told = msgspec.msgpack.encode(spec)
        process = await fork_server.fork(told, folder=folder, on_output=self._wrote, pulse_interval=interval)
        peer = PeerIdentity(spec.process_id, spec.name, Location(spec.ext_addr, 0), b"")
        try:
            async with trio.open_nursery() as nursery:
                link = await self._endpoint.adopt(process.link, peer, nursery=nursery, trust=Trust.CHILD)
                server = self.server = NodeServer(spec.process_id, process, link, folder)
                nursery.start_soon(_end_detached, server, name=f"watch the connection of {spec.name}")
                try:
                    ended = await process.wait()
                except BaseException:
                    process.kill()
                    raise
                nursery.cancel_scope.cancel()
            server.excess = group.excess
            wanted = bool(server.reason)
            self._pause = 0.0 if wanted or server.up.is_set() else min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._events.gone(self, server, ended)
        finally:  # also if the node is cancelled while the tasks of an ended server end
            if self.server is not None:
                self.server.gone.set()

    def _wrote(self, _process: ServerProcess, stream: int, data: bytes) -> None:
        self._events.wrote(self, stream, data)

    def _spec(self, folder: Path, group: ServerGroup) -> ServerSpec:
        identity = self._endpoint.identity
        options = self._endpoint.options or EndpointOptions()
        return ServerSpec(
            process_id=secrets.token_bytes(16),
            node_id=identity.process_id,
            node_name=identity.name,
            node_addr=identity.location.addr,
            node_port=identity.location.port,
            name=f"{identity.name} server {self.number}",
            bind="" if is_everywhere(self._endpoint.bound) else self._endpoint.bound,
            ext_addr=identity.location.addr,
            ports=options.tcp_ports,
            certfile=_text(options.certfile),
            keyfile=_text(options.keyfile),
            cafile=_text(options.cafile),
            max_file_size=files_of(self._endpoint).max_file_size,
            limits=group.limits_of_process,
            groups=tuple(str(place) for _parent, place in group.folders),
            stack_file=str(_stack_file(folder)),
            settings=msgspec.structs.asdict(config),
        )

    def belong_to(self, lease: Lease) -> None:
        """Note that the server serves a lease from now on; the lease's pulse interval applies."""
        if self.server is not None:
            self.server.lease = lease
            self.server.link.realm = lease.computation  # requests from there count as its own
            if self.watches_node:
                self.server.process.live_by(lease.terms.pulse_interval)
            if self.dest_path is not None and lease.prepared is not None and not lease.prepared.cleanup:
                self._keep_folder(self.server, lease, self.dest_path)

    def _keep_folder(self, server: NodeServer, lease: Lease, dest_path: Path) -> None:
        """Move the folder of a server to the place where it is kept, before a job runs: jobs see the final path."""
        try:
            server.folder = lease.keep(server.folder, dest_path)
            server.kept = True
            self._events.files_stay(server)
        except OSError as error:
            logger.warning("the files of %s cannot be kept in %s: %s", printable(lease.terms.name), dest_path, error)

    def listens(self, location: Location) -> None:
        """Note the Location at which the server listens."""
        if self.server is not None:
            self.server.location = location
            # Requests for a link to that Location get this link.
            self.server.link.peer = msgspec.structs.replace(self.server.link.peer, location=location)
            self.server.up.set()
            self.started.set()
            self._events.up(self)


async def _end_detached(server: NodeServer) -> None:
    """Kill a process that is not a server any more: it still runs but closed its connection, as after `os.execv`."""
    await server.link.ended.wait()
    await trio.sleep(DETACHED_SECONDS)
    if is_exiting(server.process.pid):
        return  # the kernel frees its memory, which may take longer; the reason of its end is another one
    server.kill("it closed its connection to its node, as happens when a process executes another program")


def is_exiting(pid: int) -> bool:
    """Return whether a child process has begun to end, or has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = int(stat.rpartition(")")[2].split()[6])
    return bool(flags & _PF_EXITING)


def _stack_file(folder: Path) -> Path:
    """Return the file for the stack of a folder's server; it is beside the folder, which belongs to user code."""
    return Path(f"{folder}.stack")


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
