"""The state of one computation, from its client's records, in the same tables as a scheduler's `status()`."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from .._cluster import ClusterStatus, ComputationStatus, NodeStatus, ServerStatus, messages
from .._shown import arguments

if TYPE_CHECKING:
    from ._server import LeasedServer
    from ._session import Session
    from ._topology import LeasedNode

MOST_STARTED = 100
"""The most coroutines at a blocked server that a client reports to the scheduler, the latest ones."""


def snapshot_of(session: Session) -> ClusterStatus:
    """Return the tables of one computation; they count coroutines, and only the scheduler's tables name them."""
    servers = list(session.servers.values())
    computation = ComputationStatus(
        id=session.set_up.computation.hex(),
        name=session.set_up.name,
        client=session.location,
        state="running" if session.turn.is_set() else "waiting",
        place=0,
        nodes=len(session.nodes),
        servers=len(servers),
        zombie_period=0.0,
        submitted=sum(server.host.submitted for server in servers),
        done=sum(server.host.submitted - len(server.host.started) for server in servers),
        running=sum(len(server.host.started) for server in servers),
    )
    return ClusterStatus(
        time=time.time(),
        scheduler=None,
        nodes=tuple(_node(node, servers, session) for node in session.nodes.values()),
        servers=tuple(server_status(server, session) for server in servers),
        computations=(computation,),
    )


def _node(node: LeasedNode, servers: list[LeasedServer], session: Session) -> NodeStatus:
    here = [server.host for server in servers if server.node_id == node.node_id]
    submitted, running = sum(host.submitted for host in here), sum(len(host.started) for host in here)
    return NodeStatus(
        id=node.node_id.hex(),
        addr=node.location.addr,
        name=node.name,
        location=node.location,
        platform="",
        suspended=node.node_id in session.load_balancer.suspended,
        servers=len(here),
        free=0,
        submitted=submitted,
        done=submitted - running,
        running=running,
        silence=0.0,
        info=None,
    )


def server_status(server: LeasedServer, session: Session) -> ServerStatus:
    """Return the state of one of its servers."""
    node = session.nodes.get(server.node_id)
    submitted, running = server.host.submitted, len(server.host.started)
    return ServerStatus(
        location=server.location,
        name=f"{node.name if node is not None else ''} server {server.slot}".strip(),
        node=node.location.addr if node is not None else "",
        node_id=server.node_id.hex(),
        computation=session.set_up.computation.hex(),
        submitted=submitted,
        done=submitted - running,
        running=running,
        coroutines=(),
        reported=0.0,
        vitals=None,
        id=server.server_id.hex(),
    )


def started_there(server: LeasedServer, session: Session) -> messages.StartedThere:
    """Return the running coroutines of this client at a server, for a scheduler to which the server cannot report."""
    latest = islice(reversed(server.host.started.values()), MOST_STARTED)
    started = {
        one.serial: (one.name, arguments(one.call[0].args, one.call[0].kwargs) if one.call is not None else None)
        for one in latest
    }
    return messages.StartedThere(session.set_up.computation, server.server_id, started)
