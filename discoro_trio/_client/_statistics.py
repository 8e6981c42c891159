"""The counts that a computation gives of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._session import Session


@attrs.frozen(kw_only=True)
class ComputationStatistics:
    """What a computation has, has done and has to do, at one moment."""

    nodes: int
    """Nodes with servers of the computation."""
    suspended_nodes: int
    """Those of them that take no new coroutines."""
    servers: int
    """Servers that take coroutines, also those of suspended nodes."""
    servers_lost: int
    """Servers that have ended since the computation was scheduled, whether lost, replaced or restarted."""
    submitted: int
    """Coroutines that were started from here, on any server."""
    running: int
    """Those of them that have not ended, as far as is known here."""
    waiting: int
    """Coroutines that wait here until a server has room for them, and tasks that wait for a place."""


def statistics_of(session: Session) -> ComputationStatistics:
    """Count what a session has."""
    topology = session.topology
    nodes = topology.load_balancer.nodes()
    hosts = [server.host for server in topology.servers.values()]
    return ComputationStatistics(
        nodes=len(nodes),
        suspended_nodes=len(topology.load_balancer.suspended.intersection(nodes)),
        servers=len(topology.load_balancer.servers()),
        servers_lost=topology.servers_lost,
        submitted=topology.submitted_before + sum(host.submitted for host in hosts),
        running=sum(len(host.started) for host in hosts),
        waiting=session.waiting.statistics().tasks_waiting + len(session.backlog),
    )
