"""Passes messages of schedulers and nodes about computations to the sessions concerned.

A session takes messages only from its own scheduler, and from the nodes that this scheduler has named. There is one
dispatcher for each endpoint; sessions enter and leave it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._cluster import NodeRests, messages
from .._errors import UnknownLocation
from .._link import ANY, Done

if TYPE_CHECKING:
    from .._link import Endpoint, Link
    from ._session import Session

_OfScheduler = (
    messages.TurnCame | messages.Discarded | messages.News | messages.ServerBlocked | messages.Leased | NodeRests
)
_About = (
    messages.TurnCame
    | messages.Discarded
    | messages.News
    | messages.ServerBlocked
    | messages.Leased
    | messages.ServerReady
    | messages.ServerFailed
    | messages.ServerGone
    | messages.LeaseEnded
    | NodeRests
)


class SchedulerMessages:
    """The sessions of one endpoint, by the id of their computation."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.sessions: dict[bytes, Session] = {}
        for message in _About.__args__:
            endpoint.services.on_notice(message, self._bring)
        endpoint.services.on_request(messages.ReadComponent, self._read_component)
        endpoint.services.on_request(messages.LeaseEnding, self._lease_ends)
        endpoint.services.on_request(messages.WatchMembers, self._watch, trust=ANY)
        endpoint.services.on_request(messages.ReplaceMember, self._replace, trust=ANY)
        endpoint.services.on_request(messages.ShareOfJob, self._share, trust=ANY)
        endpoint.services.on_request(messages.UnshareOfJob, self._unshare, trust=ANY)
        endpoint.services.links_lost.append(self._lost)
        endpoint.keepalive.pulse_intervals.append(self._pulse_interval_with)

    @classmethod
    def of(cls, endpoint: Endpoint) -> SchedulerMessages:
        """Return the endpoint's dispatcher."""
        dispatcher = endpoint.parts.get(cls)
        if dispatcher is None:
            dispatcher = endpoint.parts[cls] = cls(endpoint)
        return dispatcher

    def _bring(self, link: Link, message: _About) -> None:
        session = self.sessions.get(message.computation)
        if session is not None and _may_tell(session, link, message):
            session.heard(link, message)

    async def _read_component(self, link: Link, message: messages.ReadComponent) -> messages.ComponentBytes:
        session = self.sessions.get(message.computation)
        if session is None or link.peer.process_id not in session.nodes:
            text = "this process is no node of that computation"
            raise UnknownLocation(text)
        return await session.read_component(message)

    async def _lease_ends(self, link: Link, message: messages.LeaseEnding) -> Done:
        session = self.sessions.get(message.computation)
        if session is not None:
            if link.peer.process_id != message.node_id or not session.members.is_node(link):
                text = "this process is no node of that computation"
                raise UnknownLocation(text)
            session.members.node_leaves(message.node_id, finishes=message.finishes)
        return Done()

    def _of_member(self, link: Link, computation: bytes) -> Session:
        session = self.sessions.get(computation)
        if session is None or link.peer.process_id not in session.servers or link.realm != computation:
            message = "this process is no server of that computation"
            raise UnknownLocation(message)
        return session

    async def _watch(self, link: Link, watch: messages.WatchMembers) -> messages.Members:
        return self._of_member(link, watch.computation).watchers.add(link)

    async def _replace(self, link: Link, replace: messages.ReplaceMember) -> Done:
        await self._of_member(link, replace.computation).replace(replace.server_id, replace.reason)
        return Done()

    async def _share(self, link: Link, asked: messages.ShareOfJob) -> Done:
        await self._of_member(link, asked.computation).shared.share_of_job(link, asked)
        return Done()

    async def _unshare(self, link: Link, asked: messages.UnshareOfJob) -> Done:
        await self._of_member(link, asked.computation).shared.release(asked.share)
        return Done()

    def _pulse_interval_with(self, link: Link) -> float | None:
        """Return the interval in force with a scheduler, a node or a server; None for others."""
        intervals = [session.set_up.pulse_interval for session in self.sessions.values() if _uses(session, link)]
        return max(intervals, default=None)

    def _lost(self, link: Link) -> None:
        for session in list(self.sessions.values()):
            session.link_lost(link)


def _may_tell(session: Session, link: Link, message: _About) -> bool:
    """Return whether a peer is the one that such a message comes from."""
    peer = link.peer.process_id
    if isinstance(message, _OfScheduler):
        return session.scheduler is not None and peer == session.scheduler.peer.process_id
    if isinstance(message, messages.ServerGone):
        server = session.servers.get(message.server_id)
        return session.members.is_node(link) and (server is None or server.node_id == peer)
    return session.members.is_node(link) and peer == message.node_id


def _uses(session: Session, link: Link) -> bool:
    peer = link.peer.process_id
    return link is session.scheduler or peer in session.nodes or peer in session.servers
