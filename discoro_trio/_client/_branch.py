"""A computation at its servers: coroutines there start others on the servers of the same computation.

Starts go directly from server to server. The client reports which servers there are, and has a server replaced
that does not end a cancelled coroutine. Everything else works as in the client's own session.
"""

from __future__ import annotations

import logging
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
import trio

from .._cluster import Publisher, messages
from .._config import config
from .._errors import DiscoroError, PeerDisconnected, ProtocolError
from .._link import ANY
from .._process import Shared, current_process, shared_here
from .._values import Location
from ._membership import Membership
from ._owned import Owned
from ._runs import Runs
from ._server import LeasedServer
from ._session import Session, SetUp
from ._sharing import kept_here
from ._topology import LeasedNode

if TYPE_CHECKING:
    from typing import NoReturn

    from .._link import Link
    from .._process import Process

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Seconds in which the client must report how a server ended, once the connection to that server is lost.
_LAST_WORD = 1.0


class Branch(Session):
    """A session that another process scheduled; this process is one of its servers."""

    def __init__(self, process: Process, nursery: trio.Nursery) -> None:
        set_up = SetUp(
            computation=process.realm,
            name="",
            package=b"",
            shipped=process.shipped,
            grace_period=0.0,
            pulse_interval=0.0,
            threads=0,
            forward_output=False,
            cleanup=False,
            node_setup=[],
            server_setup=[],
        )
        super().__init__(process, nursery, set_up, Publisher(lambda: None), journals=[], timeout=config.MsgTimeout)
        self.members: BranchMembers = BranchMembers(self, process, nursery)
        self.owned = Owned(self)
        self._of_client = process.introductions.of_client
        process.endpoint.services.on_notice(messages.Members, self._told, trust=ANY)
        nursery.start_soon(self._live, name="other servers of the computation")

    @classmethod
    def of(cls, process: Process, computation: bytes) -> Branch:
        """Return the branch of the computation whose server this process is.

        Raises:
            RuntimeError: This process is no server of that computation.
        """
        nursery = process.runner.nursery
        if nursery is None or process.realm != computation:
            message = "a computation that was sent can be used at its own servers only"
            raise RuntimeError(message)
        branch: Branch | None = process.endpoint.parts.get(cls)
        if branch is None:
            branch = process.endpoint.parts[cls] = cls(process, nursery)
        return branch

    async def _live(self) -> None:
        """Get the list of servers; at the end, log errors that no code has received."""
        await self._watch()
        try:
            await trio.sleep_forever()
        finally:
            for error in self.owned.unheard():
                logger.error("a coroutine that was started here failed, and no code received its error", exc_info=error)

    async def _watch(self) -> None:
        try:
            client = self._client()
            members = await client.request(messages.WatchMembers(self.set_up.computation))
        except DiscoroError as error:
            self._end(f"the client did not report its servers ({error})")
            return
        assert isinstance(members, messages.Members)  # noqa: S101 - the only possible reply
        self.scheduler = client
        self._told(client, members)

    def _client(self) -> Link:
        """Return the link to the client; PeerDisconnected without one."""
        link = self._process.endpoint.links.get(self._process.names.client or b"")
        if link is None:
            message = "the client is gone"
            raise PeerDisconnected(message)
        return link

    async def share(self, value: T) -> Shared[T]:
        """Share a value with all present and future nodes; it goes there through the client."""
        computation = self.set_up.computation
        share, blob, early = kept_here(value, self.set_up.shipped, self._process)
        done = False
        try:
            asked = messages.ShareOfJob(computation, share, blob.size, blob.descriptor, early)
            await self._client().request(asked, timeout=None)  # it ends with the client, and its transfers have limits
            done = True
        finally:
            self._process.blobs.release(share)
            if not done:
                await self._unshare(share)
        shared_here.releases[share] = partial(self._unshare, share)
        return Shared(share, blob.size)

    async def _unshare(self, share: bytes) -> None:
        """Free a value everywhere; done when the client has done so, or is gone."""
        with trio.CancelScope(shield=True), suppress(DiscoroError):
            await self._client().request(messages.UnshareOfJob(self.set_up.computation, share))

    def _told(self, link: Link, members: messages.Members) -> None:
        if not self._of_client(link):
            text = f"{link.peer_name} does not report the servers of this computation"
            raise ProtocolError(text)
        self.set_up = msgspec.structs.replace(
            self.set_up, name=members.name, grace_period=members.grace_period, pulse_interval=members.pulse_interval
        )
        self.members.follow(link, members)

    async def replace(self, server_id: bytes, reason: str) -> None:
        """Request that a server be ended by force."""
        try:
            if self.scheduler is not None:
                await self.scheduler.request(messages.ReplaceMember(self.set_up.computation, server_id, reason))
        except DiscoroError as error:
            logger.warning("a server was not replaced: %s", error)


class BranchMembers(Membership):
    """The nodes and servers of a branch, as the client reports them."""

    def follow(self, client: Link, members: messages.Members) -> None:
        """Update the local records to the client's report."""
        session, topology = self._session, self._session.topology
        for one in members.nodes:
            if one.node_id not in topology.nodes:
                topology.came(LeasedNode(one.node_id, one.name, Location(one.addr, one.port), client, settled=True))
        for node_id in set(topology.nodes) - {one.node_id for one in members.nodes}:
            topology.left(node_id)
        there = {one.server_id for one in members.servers}
        for server in list(session.servers.values()):
            if server.server_id not in there:
                topology.withdraw(server)
                server.gone.set()
        new = [one for one in members.servers if one.server_id not in session.servers]
        # Branches do not share their loads: if all began with the same server, they would overload it.
        random.shuffle(new)
        self._nursery.start_soon(self._attach_all, new, name="attach to other servers")

    async def _attach_all(self, new: list[messages.MemberServer]) -> None:
        async with trio.open_nursery() as nursery:
            for one in new:
                nursery.start_soon(self._attach_to, one)
        self._session.topology.told([])
        self._session.changed()

    async def _attach_to(self, one: messages.MemberServer) -> None:
        session, location = self._session, Location(one.addr, one.port)
        try:
            link = await self._process.endpoint.link_to(one.server_id, location, session.set_up.computation)
            host = await self._process.starts.host(link, session.set_up.shipped)
        except DiscoroError as error:
            logger.warning("the server at %s cannot be used from here: %s", location, error)
            return
        if one.server_id not in session.servers:
            server = LeasedServer(one.server_id, one.node_id, one.slot, location, host, session)
            host.owner = server
            session.topology.add(server)
            session.changed()

    async def _bury(self, server: LeasedServer) -> None:
        with trio.move_on_after(_LAST_WORD):
            await server.gone.wait()
        self._forget(server)


class ComputationHandle(Runs):
    """A computation that was sent to one of its servers; code there can run coroutines in it.

    Coroutines that `run` and its variants start belong to the computation.
    """

    def __init__(self, computation: bytes) -> None:
        super().__init__()
        self._computation = computation

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the computation's id."""
        return ComputationHandle, (self._computation,)

    async def share(self, value: T) -> Shared[T]:
        """Share a large value with all servers: send the handle in place of it, in arguments, closures and messages.

        The value goes to the client, and from there once to each node. It outlives the job.

        Args:
            value: Anything that can be sent. It is copied before the first checkpoint.

        Returns:
            The handle, once all nodes have the value.

        Raises:
            NotPicklable: The value cannot be sent.
            DiscoroError: A node or the client has no room for it, or the client is gone.
            RuntimeError: This process is no server of the computation.

        If it is cancelled, nothing is shared.
        """
        return await self._running().share(value)

    def __getattr__(self, name: str) -> NoReturn:
        """Raise AttributeError, with advice for the names that only the client's computation has."""
        message = f"{type(self).__name__!r} object has no attribute {name!r}"
        if not name.startswith("_"):
            message += (
                ": the computation of a job can run functions (run, run_at, map, open_nursery and the like) and share "
                "values; all else is done by the program that scheduled it"
            )
        raise AttributeError(message, name=name, obj=self)

    def _running(self) -> Branch:
        branch = Branch.of(current_process(), self._computation)
        branch.check_open()
        self._shipped = branch.set_up.shipped
        self._owned = branch.owned
        return branch
