"""Changes to servers and nodes while a computation runs: restart a server, suspend and resume a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._errors import ServerLost

if TYPE_CHECKING:
    from .._values import Location
    from ._server import LeasedServer
    from ._session import Session

_REASON = "its server is restarted"


def suspend_node(session: Session, addr: str) -> None:
    """Suspend a node; UnknownLocation if there is none of that address or name."""
    for node in session.topology.known(addr):
        rest_node(session, node.node_id, rests=True)


def resume_node(session: Session, addr: str) -> None:
    """Resume a node; UnknownLocation if there is none of that address or name."""
    for node in session.topology.known(addr):
        rest_node(session, node.node_id, rests=False)


def rest_node(session: Session, node_id: bytes, *, rests: bool) -> None:
    """Suspend or resume a node."""
    if rests:
        session.load_balancer.suspend(node_id)
    else:
        session.load_balancer.resume(node_id)
        session.changed()


async def restart_server(session: Session, location: Location) -> Location:
    """Let the coroutines of a server clean up, replace its process, and wait for the new one.

    Raises:
        UnknownLocation: There is no such server.
        ServerLost: Its node is gone.
        DiscoroError: The new server could not be set up.
        ComputationClosed: The computation was closed meanwhile.
    """
    server = session.topology.server_at(location)
    with trio.CancelScope(shield=True):
        session.topology.withdraw(server)
        await session.cancel_and_wait(list(server.host.started.values()), _REASON)
        await session.replace(server.server_id, _REASON)
    while True:
        session.check_open()
        new = _successor(session, server)
        if new is not None:
            return new.location
        await session.until_changed()


def _successor(session: Session, old: LeasedServer) -> LeasedServer | None:
    node = session.nodes.get(old.node_id)
    if node is None:
        message = f"the node of the server at {old.location} is gone; no other server takes its place"
        raise ServerLost(message, location=old.location)
    failure = node.failures.get(old.slot)
    if failure is not None:
        raise failure.refusal()
    for server in session.servers.values():
        if server.node_id == old.node_id and server.slot == old.slot and server is not old:
            return server
    return None
