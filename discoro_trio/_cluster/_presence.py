"""Nodes and schedulers discover each other and keep links.

This module decides which processes an endpoint looks for and dials, how long it keeps trying, and which nodes it asks
about other networks. Datagrams are in `_link`; the messages that follow are in the node and the scheduler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from .._arguments import several
from .._errors import DiscoroError, PeerDisconnected, SchedulerNotFound
from .._link import ConnectionRefused, Done, OptionError, answered, pauses, presence_of, resolve_peers
from .._printable import printable
from .._scopes import open_background
from .._values import Location
from .._wire import Control, Found, ProcessEnded, Role, fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .._link import Discovery, Endpoint, Link, Peers
    from .node._node import Node

logger = logging.getLogger(__name__)

SILENT_STRANGERS = "Processes with another secret do not answer"
"""With these words, the last sentence of the error about a missing scheduler begins."""
_NODE = "node"  # the option

SCHEDULERS = Role.SCHEDULER | Role.PRIVATE

# Seconds for which a process that was discovered, and is not named in `nodes`, is dialled again after its link was
# lost; then it must be discovered again.
_FORGET_AFTER = 1800.0
# Seconds for which a process is dialled again if nothing listens at its address.
_FORGET_REFUSED = 30.0
# The longest time between two queries for a scheduler, in seconds. Whoever needs it may give up after a few.
_LONGEST_PAUSE = 1.0
# Seconds for which a node collects the answers of its network when it is asked for its neighbours.
_AROUND = 1.5


class WhoIsThere(Control, frozen=True):
    """Ask a process for its role; answered by `RoleIs`."""


class RoleIs(Control, frozen=True):
    """The role of a process."""

    role: int


class Invite(Control, frozen=True):
    """Scheduler to node: join this scheduler; answered by `Done`."""


class AskAround(Control, frozen=True):
    """Ask for the processes on a node's networks; answered by `Around`."""

    wanted: int


class Around(Control, frozen=True):
    """The processes that answered there."""

    found: list[tuple[bytes, int, str, str, int]]
    """The process id, role, name, address and port of each."""


class Presence:
    """Makes one endpoint discoverable, and discovers others for it.

    Args:
        endpoint: The endpoint.
        role: Its role.
        wanted: The roles of the processes that it looks for.
        node: The node that joins schedulers, if the endpoint is a node's.
    """

    def __init__(self, endpoint: Endpoint, role: Role, wanted: Role, *, node: Node | None = None) -> None:
        self._endpoint = endpoint
        self._role = role
        self._wanted = wanted
        self._node = node
        self._discoverable = False
        self._kept: dict[bytes, list[Location]] = {}
        self._joined: set[bytes] = set()
        self._nursery: trio.Nursery | None = None
        services = endpoint.services
        services.on_request(WhoIsThere, self._say)
        services.on_request(Invite, self._invited)
        services.on_request(AskAround, self._look_around)

    async def run(
        self,
        peers: Peers,
        *,
        discover: bool,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Discover others and answer their queries until cancelled.

        Args:
            peers: The machines in other networks that are queried, and the processes that are dialled.
            discover: Whether datagrams are sent and answered; without them only the dialled processes are used.
            task_status: Started when queries are answered.

        Raises:
            OptionError: The UDP port is not available.
        """
        endpoint = self._endpoint
        discovery = endpoint.discovery
        async with open_background() as nursery:
            self._nursery = nursery
            for place in peers.locations:
                nursery.start_soon(self._keep_named, place, name=f"keep a link to {place}")
            if discover and discovery is not None:
                self._discoverable = True
                await nursery.start(discovery.answer, presence_of(endpoint, self._role))
                nursery.start_soon(discovery.seek, self._wanted, self._found, name="discovery")
                if peers.hosts:
                    nursery.start_soon(self._seek_far, discovery, peers.hosts, name="discovery of named hosts")
            task_status.started()
            await trio.sleep_forever()

    async def _seek_far(self, discovery: Discovery, hosts: Sequence[str]) -> None:
        def found(one: Found) -> None:
            self._found(one, far=True)

        await discovery.seek(self._wanted | Role.NODE, found, hosts=hosts, everywhere=False)

    # --- processes that were discovered

    def _found(self, one: Found, *, far: bool = False, via: Link | None = None) -> None:
        if one.process_id == self._endpoint.id or self._nursery is None:
            return
        places = self._kept.get(one.process_id)
        if places is not None:
            if one.location not in places:
                places.append(one.location)
            return
        logger.info("found %s at %s", one.name, one.location)
        self._kept[one.process_id] = [one.location]
        self._nursery.start_soon(self._keep_found, one.process_id, far, via, name=f"keep a link to {one.name}")

    async def _keep_found(self, process_id: bytes, far: bool, via: Link | None) -> None:  # noqa: FBT001 - one caller
        """Keep a link to a process that was discovered, until it is gone for good."""
        places = self._kept[process_id]

        async def dial(attempt: int) -> Link:
            place = places[attempt % len(places)]
            try:
                return await self._endpoint.reach.link_to(process_id, place, b"", via=via)
            except ProcessEnded as error:
                if len(places) == 1:
                    raise
                places.remove(place)  # the address belongs to a different network here
                raise PeerDisconnected(str(error)) from error

        try:
            await self._keep(dial, places, far=far, named=False)
        finally:
            del self._kept[process_id]

    async def _keep_named(self, place: Location) -> None:
        """Keep a link to the process that listens at an address named in `nodes`; never give up."""

        async def dial(_attempt: int) -> Link:
            return await self._endpoint.link_at(place)

        while True:
            await self._keep(dial, [place], far=True, named=True)

    async def _keep(
        self, dial: Callable[[int], Awaitable[Link]], places: list[Location], *, far: bool, named: bool
    ) -> None:
        waits, last, attempt = pauses(), trio.current_time(), 0
        longest = _FORGET_AFTER
        while named or trio.current_time() < last + longest:
            try:
                link = await dial(attempt)
                await self._meet(link, far=far)
            except DiscoroError as error:
                named_there = any(str(place) in str(error) for place in places)
                text = str(error) if named_there else f"{places[attempt % len(places)]}: {error}"
                logger.log(logging.WARNING if attempt == 0 else logging.DEBUG, "%s", text)
                attempt += 1
                if not named and isinstance(error, ProcessEnded):
                    return
                # The host refuses the connection: the process has ended, or a firewall answers instead.
                longest = _FORGET_REFUSED if isinstance(error, ConnectionRefused) else _FORGET_AFTER
            else:
                await link.ended.wait()
                if link.orderly and not named:
                    return
                waits, last, attempt = pauses(), trio.current_time(), 0
            await trio.sleep(next(waits))

    async def _meet(self, link: Link, *, far: bool) -> None:
        """Ask the peer for its role, then join it, invite it, or ask it for its neighbours."""
        here = await link.request(WhoIsThere())
        here = answered(here, RoleIs)
        role = Role(here.role & int(SCHEDULERS | Role.NODE))
        if role & SCHEDULERS:
            await self._join(link)
        if role & Role.NODE and self._role & SCHEDULERS:
            await link.request(Invite())
        if role & Role.NODE and far and self._nursery is not None:
            self._nursery.start_soon(self._ask_around, link, name=f"ask {link.peer_name} for its neighbours")

    async def _join(self, link: Link) -> None:
        node = self._node
        if node is None or link.peer.process_id in self._joined:
            return
        self._joined.add(link.peer.process_id)
        try:
            await node.join(link)
        except BaseException:
            self._joined.discard(link.peer.process_id)
            raise
        logger.info("joined the scheduler %s", link.peer_name)
        self._endpoint.nursery.start_soon(self._joined_until, link)

    async def _joined_until(self, link: Link) -> None:
        await link.ended.wait()
        self._joined.discard(link.peer.process_id)
        logger.info("the scheduler %s is gone", link.peer_name)

    async def _ask_around(self, link: Link) -> None:
        """Ask a node in another network for the processes there, again and again while the link lasts."""
        for pause in pauses():
            try:
                around = answered(await link.request(AskAround(int(self._wanted))), Around)
            except DiscoroError as error:
                logger.info("%s does not report its neighbours: %s", link.peer_name, error)
                return
            for process_id, role, name, addr, port in around.found:
                one = Found(process_id, Role(role & int(self._wanted)), printable(name), Location(addr, port))
                self._found(one, via=link)
            await trio.sleep(pause)

    # --- requests of others

    async def _say(self, _link: Link, _question: WhoIsThere) -> RoleIs:
        return RoleIs(int(self._role))

    async def _invited(self, link: Link, _invite: Invite) -> Done:
        await self._join(link)
        return Done()

    async def _look_around(self, _link: Link, question: AskAround) -> Around:
        discovery = self._endpoint.discovery
        if discovery is None or not self._discoverable:
            return Around([])
        found = await discovery.find(Role(question.wanted & int(SCHEDULERS | Role.NODE)), _AROUND)
        return Around(
            [(one.process_id, int(one.role), one.name, one.location.addr, one.location.port) for one in found]
        )


async def find_scheduler(
    endpoint: Endpoint, seconds: float, *, host: str | None = None, accept: Callable[[Found], bool] | None = None
) -> Link:
    """Return a link to a shared scheduler.

    Args:
        endpoint: The endpoint that looks for it.
        seconds: How long to look.
        host: The machine on which it runs; None for any on this network.
        accept: Returns whether a discovered scheduler is wanted; by default each is.

    Raises:
        SchedulerNotFound: No scheduler answered in time.
    """
    discovery = endpoint.discovery
    if discovery is None:
        message = "this endpoint takes no part in discovery; name the scheduler, as schedule('address:port')"
        raise SchedulerNotFound(message)
    links: list[Link] = []
    failed: list[DiscoroError] = []
    seen: set[Location] = set()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:

            async def dial(one: Found) -> None:
                try:
                    links.append(await endpoint.link_to(one.process_id, one.location, b"", timeout=seconds))
                except DiscoroError as error:
                    failed.append(error)
                else:
                    nursery.cancel_scope.cancel()

            def report(one: Found) -> None:
                if one.location not in seen and (accept is None or accept(one)):
                    seen.add(one.location)
                    nursery.start_soon(dial, one)

            hosts = () if host is None else (host,)
            everywhere = discovery.loopback or not hosts
            await discovery.seek(Role.SCHEDULER, report, hosts=hosts, everywhere=everywhere, longest=_LONGEST_PAUSE)
    if links:
        return links[0]
    where = "on this network" if host is None else f"at {host}"
    why = f" ({failed[0]})" if failed else ""
    if discovery.loopback:
        why += " (this program's endpoint listens on loopback only; open_endpoint(ip_addr='') listens on all addresses)"
    message = (
        f"no scheduler answered {where} within {seconds:g} s{why}; start one with `discoro`, name one as "
        "schedule('address:port'), or enclose this in open_scheduler() or open_cluster(). "
        f"{SILENT_STRANGERS}; the fingerprint of this process's secret is {fingerprint(discovery.credential.key)}"
    )
    raise SchedulerNotFound(message)


async def check_peers(addresses: Sequence[str | Location], *, discover: bool) -> Peers:
    """Check the addresses of other machines before any endpoint is opened.

    Raises:
        OptionError: A host is unknown; or an address has no port and `discover` is off.
    """
    peers = await resolve_peers(_NODE, several("nodes", addresses, "addresses"))
    if peers.hosts and not discover:
        problem = f"{peers.hosts[0]} needs its TCP port, as 'address:port', because discovery is off"
        raise OptionError(_NODE, problem)
    return peers
