"""This process's place on the network: who it is, where it listens, and its links.

An endpoint owns its listener, its handshakes, its links and the nursery that all of them run in. What arrives over
the links goes to the handlers in its `Services`.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import sys
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from .._config import config
from .._errors import AuthenticationError, DiscoroError, PeerDisconnected, ProtocolError, VersionMismatch
from .._records import MutableRecord
from .._scopes import open_background
from .._values import Location
from .._wire import Connected, Credential, Crossed, Identity, PeerIdentity
from ._descriptors import Descriptors
from ._dial_back import DialBack
from ._dial_errors import unreachable
from ._handshake_io import Greeted, greet, welcome
from ._handshake_limits import HandshakeLimits
from ._keepalive import Keepalive
from ._link import Link
from ._listening import bound_to, for_lookup, is_everywhere, main_address, open_listeners
from ._reconnecting import Attempt, Reconnecting, Resumable, place_is_known
from ._refusal_log import RefusalLog
from ._resumable import ResumableTransport
from ._services import Services, Trust
from ._transport import transport_over
from .shared_memory._sharing import sharing
from .tls._tls import Tls, is_loopback, refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._options import EndpointOptions
    from .discovery._discovery import Discovery

_LONGEST_GOODBYE = 3.0
"""Seconds for what was sent before a goodbye; a peer that reads nothing would keep this process for ever."""

logger = logging.getLogger(__name__)

_MOST_VERSIONS = 16
"""The other versions of this package that are reported."""

current: ContextVar[Endpoint | None] = ContextVar("discoro endpoint", default=None)


class _Dial(MutableRecord):
    """A connection that is being made, shared by all who want it."""

    ours: bool = True
    """Whether this process opens it, and not the peer."""
    attempt: Attempt = msgspec.field(default_factory=Attempt)
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    link: Link | None = None
    error: Exception | None = None


class Endpoint:
    """One process's listener, identity and links.

    Attributes:
        id: The process's own random 128 bits.
        location: Where it listens, as peers are told.
        bound: The address at which it listens.
        discovery: How it finds others and is found; None if it takes no part in that.
        options: The options that it was opened with, if it was opened by options.
        keepalive: Ends the links to hosts that vanish.
        reach: The way to processes that cannot be dialled.
        services: What it does with what arrives.
        links: The links that are up, by the peer's process id.
        tickets: Those of its keys that were made for one link each.
        parts: What the layers above keep once for each endpoint, by type.
    """

    def __init__(self, *, identity: Identity, location: Location, bound: str, tls: Tls, nursery: trio.Nursery) -> None:
        self.id: bytes = identity.process_id
        self.identity = identity
        self.location = location
        self.bound = bound
        self.discovery: Discovery | None = None
        self.options: EndpointOptions | None = None
        self.nursery = nursery
        self.services: Services = Services()
        self.links: dict[bytes, Link] = {}
        self.parts: dict[type, Any] = {}
        self.credentials: dict[bytes, Credential] = {}
        self.introductions: set[bytes] = set()
        self._dials: dict[bytes | Location, _Dial] = {}
        self._dialed: dict[Link, float] = {}  # when a link that this process opened was made
        self._self_lock = trio.Lock()
        self._tls = tls
        self._handshake_limits = HandshakeLimits()
        self.keepalive: Keepalive = Keepalive()
        self._refusals = RefusalLog()
        self._descriptors = Descriptors()
        self._other_versions: set[str] = set()
        self.services.links_lost.append(self._forget)
        self.reach: DialBack = DialBack(self)
        self._reconnecting = Reconnecting(self)

    # --- links that others open

    async def accept(self, stream: trio.SocketStream) -> None:
        """Serve one incoming connection: the handshake, then the link until it ends."""
        if self._descriptors.are_scarce(stream.socket.fileno()):
            self._descriptors.say(trio.current_time())
            await trio.aclose_forcefully(stream)
            return
        arrivals: list[_Dial] = []
        resumed: list[Resumable] = []
        greeted = await self._welcome(stream, arrivals, resumed)
        if greeted is not None and resumed:
            one = resumed[0]
            if not one.link.lost and await self._reconnecting.take_over(one, greeted):
                await one.transport.until_left(greeted.transport)
            await trio.aclose_forcefully(stream)
        elif greeted is None or self._is_taken(greeted.peer):  # it may have been taken meanwhile
            for arrival in arrivals:
                self._give_up(arrival)
            await trio.aclose_forcefully(stream)
        else:
            link = self._make_link(greeted, opened_here=False)
            self._register(link)
            await link.run()

    async def _welcome(
        self, stream: trio.SocketStream, arrivals: list[_Dial], resumed: list[Resumable]
    ) -> Greeted | None:
        """Shake hands with a stranger; None if that failed or took too long.

        Args:
            stream: The connection.
            arrivals: Is given what those wait for who want a connection to that peer.
            resumed: Is given the link that the peer resumes, if it does not begin one.
        """

        async def crossed(peer: PeerIdentity) -> bool:
            one = self._reconnecting.resumed(peer)
            if one is not None:
                resumed.append(one)
                return await self._reconnecting.gives_way(one)
            if peer.realm not in self.credentials:
                message = "the peer's key was given up during the handshake"
                raise AuthenticationError(message)
            return await self._crossed(peer, arrivals)

        host = peer_host(stream)
        try:
            with self._handshake_limits.admit(host) as scope:
                greeted = partial(self._handshake_limits.greeted, scope)
                transport, binding = await self._tls.wrap_server(stream)
                keys = self._credential
                return await welcome(transport, self.identity, keys, crossed, binding, greeted=greeted)
        except (DiscoroError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._refusals.add(trio.current_time(), host, error)
        return None

    def _credential(self, realm: bytes) -> Credential | None:
        return self.credentials.get(realm) or self._reconnecting.credential(realm)

    async def _crossed(self, peer: PeerIdentity, arrivals: list[_Dial]) -> bool:
        """Tell whether a connection that a peer opens must give way; if not, let all who want one wait for it.

        Of two that cross, one that works wins (`Attempt.wins`), before any other frame. Theirs may come in while ours
        is being made, or just after it was; and as soon as theirs is accepted, no other one is opened here.

        Raises:
            AuthenticationError: It says that it is a process which has proved that better.
        """
        if self._is_taken(peer):
            message = f"a peer says that it is {peer.name}, to whom there is a connection under another key"
            raise AuthenticationError(message)
        if self.id < peer.process_id:
            link = self.links.get(peer.process_id)
            if link is not None and not link.lost:  # a peer that knows it resumes it, also if it is broken
                made = self._dialed.get(link)
                if made is not None and trio.current_time() < made + config.MsgTimeout:
                    return True
            for dial in (self._dials.get(peer.process_id), self._dials.get(peer.location)):
                if dial is not None and dial.ours:
                    if await dial.attempt.wins():
                        return True
                    self.reach.dropping.add(peer.location.addr)
        else:
            for dial in (self._dials.get(peer.process_id), self._dials.get(peer.location)):
                if dial is not None and dial.ours:
                    dial.attempt.scope.cancel()
        arrival = _Dial(ours=False)
        arrivals.append(arrival)
        for key in (peer.process_id, peer.location):
            self._dials.setdefault(key, arrival)
        return False

    def _is_taken(self, peer: PeerIdentity) -> bool:
        """Tell whether a peer must not take the place of the one that has its id.

        An id is no secret, and who knows one key may not pose as those who know another: the code of one computation
        not as a client or scheduler. What was inherited is nobody else's. A ticket proves less than all other keys.
        """
        old = self.links.get(peer.process_id)
        if old is None or old.lost:
            return False
        return old.trust in Trust.KIN | Trust.CHILD or old.realm not in {peer.realm, *self.introductions}

    def _give_up(self, dial: _Dial) -> None:
        """Let those who wait for a connection look again."""
        for key in [key for key, other in self._dials.items() if other is dial]:
            del self._dials[key]
        dial.done.set()

    def _trust(self, realm: bytes) -> Trust:
        return Trust.LEASE if realm else Trust.SECRET

    def _make_link(self, greeted: Greeted, *, opened_here: bool) -> Link:
        peer = greeted.peer
        transport = ResumableTransport(greeted.transport)
        link = Link(transport, peer, self.services, self._trust(peer.realm), early=greeted.rest)
        transport.received = len(greeted.rest)
        known_place = opened_here or place_is_known(greeted.transport, peer)
        self._reconnecting.add(Resumable(link, transport, greeted.resume, opened_here, known_place))
        link.name = greeted.resume.realm
        link.watched_by = self.keepalive
        self.keepalive.watch(link, greeted.transport)
        return link

    def _register(self, link: Link) -> None:
        self._say_version(link.peer)
        old = self.links.get(link.peer.process_id)
        self.links[link.peer.process_id] = link
        if old is not None and not old.lost:
            old.fail(PeerDisconnected("the peer opened a new connection"))
        for tell in self.services.links_made:
            tell(link)
        for key in (link.peer.process_id, link.peer.location):
            dial = self._dials.pop(key, None)
            if dial is not None:
                dial.link = link
                dial.done.set()

    def _say_version(self, peer: PeerIdentity) -> None:
        """Say once of each other version of this package that a peer runs it."""
        theirs, ours, said = peer.package, self.identity.package, self._other_versions
        if theirs and theirs != ours and theirs not in said and len(said) < _MOST_VERSIONS:
            said.add(theirs)
            logger.warning(
                "%s runs discoro_trio %s, this process %s; both speak protocol %d, so they work together",
                peer.name,
                theirs,
                ours,
                self.identity.protocol,
            )

    def _forget(self, link: Link) -> None:
        self.keepalive.forget(link)
        if self.links.get(link.peer.process_id) is link:
            del self.links[link.peer.process_id]
        self._dialed.pop(link, None)

    # --- links that this process opens

    async def adopt(
        self,
        stream: trio.SocketStream,
        peer: PeerIdentity,
        *,
        nursery: trio.Nursery | None = None,
        trust: Trust = Trust.KIN,
    ) -> Link:
        """Make a link of a socket that was inherited, so that its other end needs no proof."""
        link = Link(transport_over(stream), peer, self.services, trust)
        self._register(link)
        await (nursery or self.nursery).start(link.run)
        return link

    async def link_to(
        self,
        process_id: bytes,
        location: Location,
        realm: bytes,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the bound is the protocol's, and not that of the caller alone
    ) -> Link:
        """Give the link to a process, opening it if there is none.

        Args:
            process_id: The process's id; any other that answers there is refused.
            location: Where it listens.
            realm: Which key to use.
            timeout: Seconds for connecting and the handshake; `config.MsgTimeout` by default.

        Raises:
            PeerDisconnected: It could not be reached in time.
            ConnectionRefused: The host's kernel answered that no process listens there.
            ProcessEnded: Another process listens there.
            AuthenticationError: One of the two did not prove what it had to.
        """
        link = self.links.get(process_id)
        if link is not None and not link.lost:
            return link
        if process_id == self.id:
            return await self._link_to_self()
        return await self._dial(process_id, location, realm, expect=process_id, timeout=timeout)

    async def link_at(self, location: Location, realm: bytes = b"", *, timeout: float | None = None) -> Link:  # noqa: ASYNC109 - as for `link_to`
        """Give a link to the process that listens at a place. Everything else is as with `link_to`.

        The place may be written in other ways than the process itself writes it: another address, a host name, its
        own name. A second connection would end the first one, with what runs over it.
        """
        addrs = {location.addr}
        link = self._listening_at(addrs, location.port)
        if link is None and location != self.location:
            addrs = await self._ways_to_write(location.addr)
            link = self._listening_at(addrs, location.port)
        if link is not None:
            return link
        if location.port == self.location.port and self.location.addr in addrs:
            return await self._link_to_self()
        return await self._dial(location, location, realm, expect=None, timeout=timeout)

    def _listening_at(self, addrs: set[str], port: int) -> Link | None:
        """Give a link to the process that listens at one of these addresses, or has one of these names."""
        for link in self.links.values():
            peer = link.peer
            if peer.location.port == port and not link.lost:
                node_name = peer.name.partition(" server ")[0]
                if not addrs.isdisjoint({peer.location.addr, peer.name, node_name}):
                    return link
        return None

    async def _ways_to_write(self, addr: str) -> set[str]:
        """Give the addresses that an address or host name stands for; all of this machine that are known, if it is."""
        addrs = {addr}
        with trio.move_on_after(config.MsgTimeout), suppress(OSError, UnicodeError):
            found = await trio.socket.getaddrinfo(for_lookup(addr), None)
            addrs |= {str(entry[4][0]) for entry in found}
        here = {self.location.addr, self.bound, "127.0.0.1", "::1"} if is_everywhere(self.bound) else {self.bound}
        return addrs if addrs.isdisjoint(here) else addrs | here | {self.location.addr}

    async def _dial(
        self,
        key: bytes | Location,
        location: Location,
        realm: bytes,
        *,
        expect: bytes | None,
        timeout: float | None,  # noqa: ASYNC109 - as for `link_to`
    ) -> Link:
        seconds = config.MsgTimeout if timeout is None else timeout
        deadline = trio.current_time() + seconds
        while True:
            dial = self._dials.get(key)
            if dial is None:
                dial = self._dials[key] = _Dial()
                self.nursery.start_soon(self._carry_out, dial, location, realm, expect, name=f"dial {location}")
            scope = dial.attempt.scope  # the most patient of all who want it bounds its time
            scope.deadline = deadline if scope.deadline == math.inf else max(scope.deadline, deadline)
            with trio.move_on_at(deadline):
                await dial.done.wait()
            if not dial.done.is_set():  # others, who have more patience, still wait for it
                message = f"{location} did not answer within {seconds:g} s"
                raise PeerDisconnected(message)
            if dial.error is not None:
                raise type(dial.error)(*dial.error.args) from dial.error
            if dial.link is not None:
                return dial.link
            # The peer's own connection, which was under way, did not come about.

    async def _carry_out(self, dial: _Dial, location: Location, realm: bytes, expect: bytes | None) -> None:
        began = trio.current_time()
        greeted: Greeted | None = None
        try:
            credential = self._own_credential(location, realm)
            with dial.attempt.scope:
                greeted = await self.open_connection(location, credential, expect, dial.attempt)
        except Connected as found:
            dial.link = self.links.get(found.process_id)
        except Crossed:
            dial.attempt.end()
            await self._await_crossed(dial, location)
            return
        except (OSError, ValueError, OverflowError, trio.BrokenResourceError) as error:
            # Peers say where others listen: the host may be no host name, the port no port.
            dial.error = refusal_of(error) or unreachable(location, error)
        except (AuthenticationError, VersionMismatch, ProtocolError, PeerDisconnected) as error:
            dial.error = error
        else:
            if greeted is not None:
                await self._opened(dial, greeted)
            elif dial.attempt.scope.deadline <= trio.current_time():
                dial.error = PeerDisconnected(f"{location} did not answer within {trio.current_time() - began:.3g} s")
            else:  # the peer's own connection is taken in its place
                await self._await_crossed(dial, location)
        dial.attempt.end()
        self._give_up(dial)

    async def _opened(self, dial: _Dial, greeted: Greeted) -> None:
        """Make a link of the connection that this process has opened."""
        resumed = self.links.get(greeted.peer.process_id)
        if dial.done.is_set() and resumed is not None and not resumed.lost:  # the peer's own connection came first
            await greeted.transport.aclose()
            return
        self.reach.dropping.discard(greeted.peer.location.addr)
        link = dial.link = self._make_link(greeted, opened_here=True)
        self._dialed[link] = trio.current_time()
        self._register(link)
        await self.nursery.start(link.run)

    async def _await_crossed(self, dial: _Dial, location: Location) -> None:
        """The peer's own connection is under way and wins; wait for it to arrive."""
        with trio.move_on_after(config.MsgTimeout):
            await dial.done.wait()
        if not dial.done.is_set():
            dial.error = PeerDisconnected(f"{location} refused: its own connection to us did not arrive")
            self._give_up(dial)

    def _own_credential(self, location: Location, realm: bytes) -> Credential:
        credential = self.credentials.get(realm)
        if credential is None:
            message = f"no key here opens a connection to {location}"
            raise AuthenticationError(message)
        return credential

    async def open_connection(
        self, location: Location, credential: Credential, expect: bytes | None, attempt: Attempt
    ) -> Greeted:
        """Open a connection and shake hands over it; how far that has come is noted at the attempt."""
        stream = await self._connect(location)
        attempt.connected = True
        try:
            transport, binding = await self._tls.wrap_client(stream)
            connected = self._is_connected if expect is None else None
            return await greet(
                transport, self.identity, credential, expect, binding, connected=connected, works=attempt.answered
            )
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    async def _connect(self, location: Location) -> trio.SocketStream:
        return await trio.open_tcp_stream(for_lookup(location.addr), location.port)

    def _is_connected(self, process_id: bytes) -> bool:
        link = self.links.get(process_id)
        return link is not None and not link.lost

    async def _link_to_self(self) -> Link:
        async with self._self_lock:
            link = self.links.get(self.id)
            if link is not None and not link.lost:
                return link
            ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
            peer = PeerIdentity.of(self.identity)
            far = Link(transport_over(theirs), peer, self.services, Trust.KIN)
            await self.nursery.start(far.run)
            return await self.adopt(ours, peer)

    async def close(self, reason: str, *, keep: Link | None = None) -> None:
        """Say goodbye on every link but one, and wait until they have ended; those that take too long are cut."""
        links = [link for link in self.links.values() if link is not keep]
        for link in links:
            link.close(reason)
        with trio.move_on_after(_LONGEST_GOODBYE):
            for link in links:
                await link.ended.wait()
        for link in links:
            link.fail(PeerDisconnected(reason))
            await link.ended.wait()


def peer_host(stream: trio.SocketStream) -> str:
    """Give the address that a connection comes from; "" if it is gone already."""
    try:
        host: str = stream.socket.getpeername()[0]
    except OSError:
        return ""
    return host


def make_identity(*, name: str | None, location: Location, process_id: bytes | None = None) -> Identity:
    """Make a new identity for this process."""
    return Identity(
        process_id=process_id or secrets.token_bytes(16),
        python=sys.version_info[:2],
        name=name or f"{socket.gethostname()}",
        location=location,
    )


def current_endpoint() -> Endpoint:
    """Give the endpoint that encloses the calling task.

    Raises:
        RuntimeError: There is none.
    """
    endpoint = current.get()
    if endpoint is None:
        message = (
            "this needs a place on the network: enclose it in 'async with discoro.open_endpoint():', "
            "open_cluster() or open_scheduler()"
        )
        raise RuntimeError(message)
    return endpoint


@asynccontextmanager
async def serve_endpoint(
    *,
    bind: str = "127.0.0.1",
    ports: Sequence[int] = (0,),
    ext_addr: str | None = None,
    name: str | None = None,
    process_id: bytes | None = None,
    tls: Tls | None = None,
) -> AsyncIterator[Endpoint]:
    """Listen, and keep the links of one endpoint until the block is left; then say goodbye on all of them.

    Args:
        bind: The address or host name of this machine to listen at; "" for all its addresses.
        ports: The ports to listen at: the first of them that is free; 0 for any.
        ext_addr: The address that peers are told, if it is another.
        name: A name for people; None for that of the host.
        process_id: The process's id; None for a new one.
        tls: How connections that leave the machine are encrypted; None for a certificate made in memory.

    Raises:
        OptionError: The address is not of this machine, or no port is free.
    """
    listeners = await open_listeners(bind, ports)
    bound = bound_to(listeners[0])
    tls = tls or Tls()
    if not is_loopback(bound):
        tls.prepare()
    addr = ext_addr or (main_address() if is_everywhere(bound) else bound)
    location = Location(addr, listeners[0].socket.getsockname()[1])
    identity = make_identity(name=name, location=location, process_id=process_id)
    async with open_background(shielded=True) as nursery:
        endpoint = Endpoint(identity=identity, location=location, bound=bound, tls=tls, nursery=nursery)
        nursery.start_soon(trio.serve_listeners, endpoint.accept, listeners, name=f"listener at {location}")
        nursery.start_soon(endpoint.keepalive.run, name="watch for hosts that vanish")
        with sharing(endpoint):
            try:
                yield endpoint
            finally:
                with trio.CancelScope(shield=True):
                    await endpoint.close("the program ends")
