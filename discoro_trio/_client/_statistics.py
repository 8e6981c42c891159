"""The counts that a computation reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ._session import Session


@attrs.frozen(kw_only=True)
class ComputationStatistics:
    """The counts of a computation at one moment."""

    nodes: int
    """Nodes with servers of the computation."""
    suspended_nodes: int
    """How many of these nodes take no new coroutines."""
    servers: int
    """Servers that take coroutines, including those of suspended nodes."""
    servers_lost: int
    """Servers that were lost, replaced or restarted since the computation was scheduled."""
    submitted: int
    """Coroutines that this process started, on any server."""
    running: int
    """How many of them are not known to have ended."""
    failed: int
    """How many of the submitted ones raised an error or were lost with their server."""
    waiting: int
    """Coroutines that wait in this process until a server has room, and tasks that wait for a place."""


def statistics_of(session: Session) -> ComputationStatistics:
    """Return the counts of a session."""
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
        failed=session.failed,
        waiting=session.waiting.statistics().tasks_waiting + len(session.backlog),
    )
