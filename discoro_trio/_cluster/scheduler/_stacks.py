"""Task dumps of a whole cluster: the scheduler asks the processes linked to it, and nodes ask their servers.

No process is delayed: each makes its task dump at once, and a process that does not answer is shown as unresponsive.
Only peers with the cluster's secret may ask. The task dump of one process is made in `_process`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import msgspec
import trio

from ..._config import config
from ..._errors import DiscoroError
from ..._link import answered
from ..._process import AskDump, ProcessDump, Wanted
from ..._wire import Control
from ..server._stack_dump import dumped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._link import Endpoint, Link
    from ..node._server_slot import NodeServer
    from ._overview import Overview

_MOST_TASKS = 20_000
"""The most tasks reported for all processes together; each process has its own limit, too."""
_PARTS, _PARTS_AT_NODE = 2, 5
"""The part of its own time limit that a scheduler or a node waits for replies, so that its answer is in time, too."""


class ProcessStacks(msgspec.Struct, frozen=True):
    """A process and its tasks."""

    process_id: bytes
    node_id: bytes
    """For a server, its node; empty for the others."""
    roles: list[str]
    """`client`, `scheduler`, `node` or `server`; a process may be several."""
    name: str
    location: str
    picture: ProcessDump | None
    """None if it does not answer."""
    thread: list[str]
    """If it does not answer, the stack of its main thread where that could be read; outermost frame first."""
    coroutines: list[str]
    """If it does not answer, the coroutines of its last report."""


class AskServers(Control, frozen=True):
    """Request task dumps of a node's servers; answered by `StacksAre`."""

    wanted: Wanted


class AskStacks(Control, frozen=True):
    """Request task dumps of the cluster from its scheduler; answered by `StacksAre`."""

    wanted: Wanted


class StacksAre(Control, frozen=True):
    """The requested task dumps."""

    processes: list[ProcessStacks]


class NodeStacks:
    """Answers requests for task dumps of a node's servers.

    Args:
        endpoint: The node's endpoint.
        servers: Returns the servers that listen.
    """

    def __init__(self, endpoint: Endpoint, servers: Callable[[], Iterable[NodeServer]]) -> None:
        self._id = endpoint.id
        self._servers = servers
        endpoint.services.on_request(AskServers, self._asked)

    async def _asked(self, _link: Link, ask: AskServers) -> StacksAre:
        found: list[ProcessStacks] = []

        async def look(server: NodeServer) -> None:
            found.append(await self._look(server, ask.wanted))

        async with trio.open_nursery() as nursery:
            for server in self._servers():
                if _matches(ask.wanted, server.link):
                    nursery.start_soon(look, server, name=f"stacks of {server.link.peer.name}")
        return StacksAre(sorted(found, key=lambda one: one.name))

    async def _look(self, server: NodeServer, wanted: Wanted) -> ProcessStacks:
        dump = await _task_dump(server.link, wanted, config.MsgTimeout / _PARTS_AT_NODE)
        thread = await dumped(server) if dump is None and not wanted.stuck else []
        return _stacks(server.link, ["server"], dump, node_id=self._id, thread=thread)


class ClusterStacks:
    """Answers requests for task dumps of all processes linked to a scheduler."""

    def __init__(self, endpoint: Endpoint, overview: Overview) -> None:
        self._endpoint = endpoint
        self._overview = overview
        endpoint.services.on_request(AskStacks, self._asked)

    async def _asked(self, _link: Link, ask: AskStacks) -> StacksAre:
        return StacksAre(await self.gather(ask.wanted))

    async def gather(self, wanted: Wanted) -> list[ProcessStacks]:
        """Return the task dumps of all processes; those that do not answer are shown as such."""
        await self._endpoint.link_at(self._endpoint.location)  # it asks itself in the same way as other processes
        found: list[ProcessStacks] = []
        async with trio.open_nursery() as nursery:
            for process_id, roles in self._roles().items():
                link = self._endpoint.links.get(process_id)
                if link is None:
                    continue
                if not wanted.server:
                    nursery.start_soon(self._look, link, roles, wanted, found)
                if "node" in roles:
                    nursery.start_soon(self._look_at_servers, link, wanted, found)
        return _bounded(sorted(found, key=lambda one: (one.roles != ["client"], one.name)))

    def _roles(self) -> dict[bytes, list[str]]:
        roles: dict[bytes, list[str]] = {}
        for role, ids in (
            ("client", self._overview.clients),
            ("scheduler", [self._endpoint.id]),
            ("node", self._overview.nodes),
        ):
            for process_id in ids:
                roles.setdefault(process_id, []).append(role)
        return roles

    async def _look(self, link: Link, roles: list[str], wanted: Wanted, found: list[ProcessStacks]) -> None:
        found.append(_stacks(link, roles, await _task_dump(link, wanted, config.MsgTimeout / _PARTS)))

    async def _look_at_servers(self, link: Link, wanted: Wanted, found: list[ProcessStacks]) -> None:
        try:
            reply = answered(await link.request(AskServers(wanted), timeout=config.MsgTimeout / _PARTS), StacksAre)
        except DiscoroError:
            return  # the node itself is shown as unresponsive
        rows = {str(row.location): row for row in self._overview.tables().servers}
        for one in reply.processes:
            row = rows.get(one.location)
            names = [coro.name for coro in row.coroutines] if row is not None and one.picture is None else []
            found.append(msgspec.structs.replace(one, coroutines=names[: wanted.limit]))


def _matches(wanted: Wanted, link: Link) -> bool:
    """Return whether a server is wanted."""
    names = (link.peer.name, str(link.peer.location))
    return not wanted.server or any(fnmatchcase(name, wanted.server) for name in names)


async def _task_dump(link: Link, wanted: Wanted, patience: float) -> ProcessDump | None:
    try:
        return answered(await link.request(AskDump(wanted), timeout=patience), ProcessDump)
    except DiscoroError:
        return None


def _stacks(
    link: Link, roles: list[str], picture: ProcessDump | None, *, node_id: bytes = b"", thread: Iterable[str] = ()
) -> ProcessStacks:
    peer = link.peer
    return ProcessStacks(peer.process_id, node_id, roles, peer.name, str(peer.location), picture, list(thread), [])


def _bounded(processes: list[ProcessStacks]) -> list[ProcessStacks]:
    """Drop the tasks beyond the limit for all processes together."""
    room = _MOST_TASKS
    bounded = []
    for one in processes:
        picture = one.picture
        if picture is not None and len(picture.tasks) > room:
            left_out = picture.left_out + len(picture.tasks) - room
            picture = msgspec.structs.replace(picture, tasks=picture.tasks[:room], left_out=left_out)
        room -= len(picture.tasks) if picture is not None else 0
        bounded.append(msgspec.structs.replace(one, picture=picture))
    return bounded
