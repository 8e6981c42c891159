"""Sends the list of servers to those servers whose coroutines start coroutines at others.

This module owns the set of these servers at the client. `Branch` uses the list at a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._cluster import messages

if TYPE_CHECKING:
    from .._link import Link
    from ._session import Session


class ServerDirectory:
    """The servers that receive the list of one session's nodes and servers."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._links: list[Link] = []
        self._last: messages.Members | None = None

    def add(self, link: Link) -> messages.Members:
        """Send the list to a server from now on; return the present list."""
        if link not in self._links:
            self._links.append(link)
        self._last = self._members()
        return self._last

    def tell(self) -> None:
        """Send all of them the present list if it has changed."""
        self._links = [link for link in self._links if not link.lost]
        if not self._links:
            return
        members = self._members()
        if members != self._last:
            self._last = members
            for link in self._links:
                link.notify(members)

    def _members(self) -> messages.Members:
        session, set_up = self._session, self._session.set_up
        taking = set(session.load_balancer.servers())
        return messages.Members(
            set_up.computation,
            set_up.name,
            set_up.grace_period,
            set_up.pulse_interval,
            [
                messages.MemberNode(node.node_id, node.name, node.location.addr, node.location.port)
                for node in session.nodes.values()
            ],
            [
                messages.MemberServer(
                    server.server_id, server.node_id, server.slot, server.location.addr, server.location.port
                )
                for server in session.servers.values()
                if server.server_id in taking
            ],
        )
