"""Opens schedulers and nodes for programs and clients, and the second part of what `_open_cluster` opens."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from .._arguments import flag, integer, optional_integer, path, several
from .._config import config
from .._link import EndpointOptions, OptionError, current
from .._process import ensure_endpoint
from .._scopes import open_background
from .._wire import Role
from ._launcher import access_to, check_launcher
from ._options import check_period, check_pulse_interval
from ._presence import SCHEDULERS, Presence, check_peers
from ._processors import processors
from .isolation._control_groups import find_groups
from .isolation._limits import Limits, check_limits
from .isolation._server_groups import open_groups
from .isolation._users import check_users
from .node._node import serve_node
from .node._startup import check_dest_path
from .scheduler._scheduler import Scheduler

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Sequence

    import trio

    from .._link import Peers, Ports
    from .._values import Location
    from ._launcher import Launcher
    from .node._node import Node
    from .node._startup import StartedNode

_CPUS, _SERVE, _TCP_PORTS = "cpus", "serve", "tcp_ports"  # the options
_MAX_FILE_SIZE = "max_file_size"


class EndpointKeywords(TypedDict, total=False):
    """The options of `open_endpoint`."""

    ip_addr: str
    ext_ip_addr: str | None
    tcp_ports: Ports
    udp_port: int
    name: str | None
    secret: str | bytes | None
    secret_file: str | os.PathLike[str] | None
    certfile: str | os.PathLike[str] | None
    keyfile: str | os.PathLike[str] | None
    cafile: str | os.PathLike[str] | None


_scheduler: ContextVar[Scheduler | None] = ContextVar("discoro scheduler", default=None)


def current_scheduler() -> Scheduler | None:
    """Return the innermost scheduler that encloses the calling task."""
    return _scheduler.get()


@asynccontextmanager
async def run_cluster(
    started: StartedNode,
    servers: int | None,
    *,
    nodes: Sequence[str | Location],
    discover: bool,
    zombie_period: float | None,
    pulse_interval: float | None,
    dest_path: Path | None,
    max_file_size: int | None,
    endpoint_options: EndpointKeywords,
) -> AsyncIterator[Scheduler]:
    """Run what `open_cluster` opens, once the node is started; the other arguments are those of `open_cluster`."""
    count = processors() if servers is None else servers
    private = not (nodes or discover)
    peers = await check_peers(nodes, discover=discover)
    options = _options(endpoint_options, everywhere=False)
    async with ensure_endpoint(options, private=private) as process, open_background(shielded=True) as nursery:
        endpoint = process.endpoint
        process.files.max_file_size = check_max_file_size(max_file_size)
        scheduler = Scheduler(endpoint, nursery, zombie_period=zombie_period, pulse_interval=pulse_interval)
        scheduler.own_servers = count
        token = _scheduler.set(scheduler)
        block = serve_node(endpoint, servers=count, dest_path=dest_path, embedded=True, started=started)
        try:
            async with block as node:
                await node.join(await endpoint.link_at(endpoint.location))
                if not private:
                    presence = Presence(endpoint, Role.PRIVATE, Role.NODE)
                    await nursery.start(_find, presence, peers, discover)
                yield scheduler
        finally:
            _scheduler.reset(token)


@asynccontextmanager
async def open_scheduler(
    *,
    nodes: Sequence[str | Location] = (),
    discover: bool = True,
    shared: bool = False,
    settle: bool | None = None,
    launch: Launcher | None = None,
    zombie_period: float | None = None,
    pulse_interval: float | None = None,
    dest_path: str | os.PathLike[str] | None = None,
    max_file_size: int | None = None,
    **endpoint_options: Unpack[EndpointKeywords],
) -> AsyncIterator[Scheduler]:
    """Run a scheduler that discovers nodes and uses them, while the block lasts.

    Args:
        nodes: Nodes in other networks: addresses or host names, with a TCP port where it is known. One node in each
            network is enough; it reports the others there.
        discover: Whether nodes are discovered on the network; otherwise only entries of `nodes` with a port are used.
        shared: Whether clients can discover it, like the `discoro` program.
        settle: Whether a shared scheduler waits five heartbeats before it grants servers, so that nodes can report the
            leases of a previous scheduler that did not end in order, and clients can return to their places in the
            queue. None: only if the first node reports a lease, or a client returns before that.
        launch: Starts nodes for this scheduler and ends them with the block, such as `discoro.launch.Ssh(hosts)`.
        zombie_period: Seconds that a server may be idle before it is closed; None for no limit.
        pulse_interval: Seconds between the heartbeats of nodes; `config.MinPulseInterval` by default.
        dest_path: The folder for files that other processes send to this program; by default the current one.
        max_file_size: The most bytes of such a file; None for no limit.
        endpoint_options: Those of `open_endpoint`; here `ip_addr` means all addresses by default.

    Yields:
        The scheduler; computations in the block use it without being given it.

    Raises:
        ValueError: An option cannot work; the text names it.
        DiscoroError: `launch` is given, and none of its nodes could join.

    Leaving the block takes the servers back from all computations.
    """
    for option, value in (("discover", discover), ("shared", shared)):
        flag(option, value)
    if settle is not None:
        flag("settle", settle)
    check_launcher(launch)
    check_period("zombie_period", zombie_period)
    check_pulse_interval(pulse_interval)
    folder = check_dest_path(dest_path)
    peers = await check_peers(nodes, discover=discover)
    options = _options(endpoint_options, everywhere=True)
    async with ensure_endpoint(options, private=False) as process, open_background(shielded=True) as nursery:
        endpoint = process.endpoint
        process.files.folder = folder
        process.files.max_file_size = check_max_file_size(max_file_size)
        process.names.keeps_public = shared
        scheduler = Scheduler(
            endpoint,
            nursery,
            shared=shared,
            settle=settle,
            zombie_period=zombie_period,
            pulse_interval=pulse_interval,
        )
        scheduler.launcher = launch
        presence = Presence(endpoint, Role.SCHEDULER if shared else Role.PRIVATE, Role.NODE)
        await nursery.start(_find, presence, peers, discover)
        token = _scheduler.set(scheduler)
        try:
            async with nullcontext() if launch is None else launch.open(access_to(endpoint, scheduler)):
                yield scheduler
        finally:
            process.names.keeps_public = False
            _scheduler.reset(token)


@asynccontextmanager
async def open_node(
    *,
    cpus: int = 0,
    nodes: Sequence[str | Location] = (),
    discover: bool = True,
    dest_path: str | os.PathLike[str] | None = None,
    max_file_size: int | None = None,
    serve: int | None = None,
    max_memory: int | None = None,
    max_files: int | None = None,
    max_processes: int | None = None,
    cgroup: Sequence[str | os.PathLike[str]] = (),
    user: str | None = None,
    users: Sequence[str] = (),
    pulse_interval: float | None = None,
    **endpoint_options: Unpack[EndpointKeywords],
) -> AsyncIterator[Node]:
    """Run the servers of this machine for private and shared schedulers, while the block lasts.

    Args:
        cpus: The number of servers. Negative: leave that many processors unused. 0: one server per processor.
        nodes: Addresses of schedulers, or of nodes in networks with schedulers, with a TCP port where it is known.
        discover: Whether schedulers are discovered on the network.
        dest_path: The folder for the working folders; by default the system's for temporary files.
        max_file_size: The most bytes of a file that the servers accept from others; None for no limit.
        pulse_interval: The most seconds between its heartbeats; a scheduler may ask for fewer. The default and upper
            bound is `config.MaxPulseInterval`.
        serve: How many computations get servers; `await node.until_free()` then waits for the end of the last one.
        max_memory: The most bytes of memory that one server may use; None for no limit.
        max_files: The most files and connections that one server may have open; None for the node's own limit.
        max_processes: The most processes and threads of one server if it has a control group, otherwise of the
            servers' user; None for no limit.
        cgroup: Folders of control groups that were made for this node, one in each hierarchy; the node makes a group
            for each server in them. By default the group that systemd has delegated to the node, if there is one and
            limits are set.
        user: The user, by name or number, that the servers run as; requires root. By default the node's own user.
        users: A pool of users: each lease gets its own, so no lease can read another's files. A computation waits
            while all are in use. They must run nothing else: processes that a lease leaves behind are killed.
        endpoint_options: Those of `open_endpoint`; here `ip_addr` means all addresses by default.

    Yields:
        The node, with its `location` and `servers`.

    Raises:
        ValueError: An option cannot work; the text names it.

    When the block is left, also by an exception or Ctrl-C, all servers have ended and their files are gone.
    """
    flag("discover", discover)
    serve = optional_integer(_SERVE, serve)
    if serve is not None and serve < 1:
        raise OptionError(_SERVE, f"expected a number of computations, 1 or more, not {serve}")
    count = check_cpus(cpus)
    longest = config.MaxPulseInterval if pulse_interval is None else check_pulse_interval(pulse_interval)
    options = _options(endpoint_options, everywhere=True)
    if options.tcp_ports != (0,) and len(options.tcp_ports) <= count:
        needed = f"{count + 1} ports are needed, for the node and its servers"
        raise OptionError(_TCP_PORTS, f"{needed}, not {len(options.tcp_ports)}; give more ports or fewer cpus")
    dest_folder = check_dest_path(dest_path)
    limit = check_max_file_size(max_file_size)
    limits = check_limits(Limits(max_memory, max_files, max_processes))
    cgroup = [path("cgroup", folder) for folder in several("cgroup", cgroup, "folders")]
    found = find_groups(cgroup) if cgroup or limits.need_groups else []
    run_as = check_users(user, users, dest_folder or Path(tempfile.gettempdir()))
    peers = await check_peers(nodes, discover=discover)
    async with ensure_endpoint(options, private=False) as process, open_background(shielded=True) as nursery:
        process.files.max_file_size = limit
        with open_groups(found, limits, named=bool(cgroup)) as groups:
            block = serve_node(process.endpoint, servers=count, dest_path=dest_folder, groups=groups, users=run_as)
            async with block as node:
                node.longest_pulse_interval = longest
                # Not the program's own folder: jobs can send files to the node, too.
                process.files.folder = node.folder / "received"
                process.files.folder.mkdir(mode=0o700)
                if serve is not None:
                    node.rest(after=serve)
                presence = Presence(process.endpoint, Role.NODE, SCHEDULERS, node=node)
                await nursery.start(_find, presence, peers, discover)
                yield node


def _options(given: EndpointKeywords, *, everywhere: bool) -> EndpointOptions:
    """Check the options of an endpoint.

    Raises:
        OptionError: An option cannot work.
        RuntimeError: Options are given, but an enclosing endpoint is already open, and only it could take them.
    """
    if given and current.get() is not None:
        message = (
            f"{', '.join(given)}: an enclosing block, such as open_coro(), has opened the endpoint of this program; "
            "open this block before it, or give these options to an open_endpoint() around both"
        )
        raise RuntimeError(message)
    return EndpointOptions(**({"ip_addr": ""} if everywhere else {}) | given)


async def _find(
    presence: Presence,
    peers: Peers,
    discover: bool,  # noqa: FBT001 - started in a nursery
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    await presence.run(peers, discover=discover, task_status=task_status)


def check_max_file_size(size: int | None) -> int | None:
    """Return the limit that an option stands for.

    Raises:
        OptionError: It is not a number of bytes.
    """
    size = optional_integer(_MAX_FILE_SIZE, size)
    if size is not None and size < 0:
        raise OptionError(_MAX_FILE_SIZE, f"expected a number of bytes, 0 or more, not {size}")
    return size


def check_cpus(cpus: int) -> int:
    """Return the number of servers that an option stands for.

    Raises:
        OptionError: This process may not use that many processors.
    """
    cpus = integer(_CPUS, cpus)
    there = processors()
    count = cpus if cpus > 0 else there + cpus
    if not 0 < count <= there:
        raise OptionError(_CPUS, f"{cpus} is not possible: this process may use {there} processors")
    return count
