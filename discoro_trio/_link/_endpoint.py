"""The network side of this process: its identity, its listener and its links.

An endpoint owns its listener, its handshakes, its links and the nursery that all of them run in. Frames that arrive
over the links go to the handlers in its `Services`.
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
"""Seconds to write what was sent before a goodbye; otherwise a peer that never reads would block this process."""

logger = logging.getLogger(__name__)

_MOST_VERSIONS = 16
"""The number of other versions of this package that are reported in the log."""

current: ContextVar[Endpoint | None] = ContextVar("discoro endpoint", default=None)


class _Connecting(MutableRecord):
    """A connection that is being made, shared by all tasks that wait for it."""

    ours: bool = True
    """Whether this process opens it; otherwise the peer does."""
    attempt: Attempt = msgspec.field(default_factory=Attempt)
    done: trio.Event = msgspec.field(default_factory=trio.Event)
    link: Link | None = None
    error: Exception | None = None


class Endpoint:
    """One process's listener, identity and links.

    Attributes:
        id: The process id: 128 random bits.
        location: The location that is announced to peers.
        bound: The address at which it listens.
        discovery: Finds other processes and announces this one; None without discovery.
        options: The options that it was opened with, if it was opened with options.
        keepalive: Ends the links to hosts that vanish.
        reach: Connects to processes that cannot be dialled.
        services: The handlers of what arrives.
        links: The links that are up, by the peer's process id.
        tickets: The keys that were made for one link each (introductions).
        parts: Objects of the layers above, one of each type for each endpoint.
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
        self._dials: dict[bytes | Location, _Connecting] = {}
        self._dialed: dict[Link, float] = {}  # links that this process opened, with the time
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
        """Serve one incoming connection until it is closed."""
        try:
            if self._descriptors.are_scarce(stream.socket.fileno()):
                self._descriptors.say(trio.current_time())
            else:
                await self._serve(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Shake hands with an unauthenticated peer, then serve the link until it ends or uses another connection."""
        arrivals: list[_Connecting] = []
        resumed: list[Resumable] = []
        greeted = await self._welcome(stream, arrivals, resumed)
        if greeted is not None and resumed:
            one = resumed[0]
            if not one.link.lost and await self._reconnecting.take_over(one, greeted):
                await one.transport.until_left(greeted.transport)
        elif greeted is None or self._is_taken(greeted.peer):  # the id may have been taken meanwhile
            for arrival in arrivals:
                self._give_up(arrival)
        else:
            link = self._make_link(greeted)
            self._register(link)
            await link.run()

    async def _welcome(
        self, stream: trio.SocketStream, arrivals: list[_Connecting], resumed: list[Resumable]
    ) -> Greeted | None:
        """Shake hands with an unauthenticated peer. Return None if the handshake failed or took too long.

        Args:
            stream: The connection.
            arrivals: The dials that wait for a connection to that peer are appended here.
            resumed: The link that the peer resumes is appended here, if the peer does not begin a new one.
        """

        async def crossed(peer: PeerIdentity) -> bool:
            one = self._reconnecting.resumed(peer)
            if one is not None:
                resumed.append(one)
                return await self._reconnecting.gives_way(one)
            if peer.realm not in self.credentials:
                message = "the peer's key was withdrawn during the handshake"
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

    async def _crossed(self, peer: PeerIdentity, arrivals: list[_Connecting]) -> bool:
        """Return whether a connection that a peer opens must give way; if not, let all waiting tasks wait for it.

        If two connections cross, one that works wins (`Attempt.wins`), before any other frame. The peer's connection
        may arrive while this process opens its own, or just after that. As soon as the peer's connection is accepted,
        this process opens no other one.

        Raises:
            AuthenticationError: The peer claims the id of a process that has proved it with a better key.
        """
        if self._is_taken(peer):
            message = f"a peer claims to be {peer.name}, which is already connected with another key"
            raise AuthenticationError(message)
        if self.id < peer.process_id:
            link = self.links.get(peer.process_id)
            if link is not None and not link.lost:  # a peer that has this link resumes it, even if it is broken
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
        arrival = _Connecting(ours=False)
        arrivals.append(arrival)
        for key in (peer.process_id, peer.location):
            self._dials.setdefault(key, arrival)
        return False

    def _is_taken(self, peer: PeerIdentity) -> bool:
        """Return whether a peer must not replace the connected process with the same id.

        An id is not secret. A process that has one key must not pose as a process that has another one: the code of a
        computation must not pose as a client or scheduler. A link over an inherited socket is never replaced. The key
        of an introduction proves less than all other keys.
        """
        old = self.links.get(peer.process_id)
        if old is None or old.lost:
            return False
        return old.trust in Trust.KIN | Trust.CHILD or old.realm not in {peer.realm, *self.introductions}

    def _give_up(self, dial: _Connecting) -> None:
        """Wake the tasks that wait for a connection, so that they look again."""
        for key in [key for key, other in self._dials.items() if other is dial]:
            del self._dials[key]
        dial.done.set()

    def _trust(self, realm: bytes) -> Trust:
        return Trust.LEASE if realm else Trust.SECRET

    def _make_link(self, greeted: Greeted, dialled: Location | None = None) -> Link:
        """Make a link from a connection; `dialled` is where this process has opened it, if it has."""
        peer = greeted.peer
        transport = ResumableTransport(greeted.transport)
        link = Link(transport, peer, self.services, self._trust(peer.realm), early=greeted.rest)
        transport.received = len(greeted.rest)
        known_place = dialled is not None or place_is_known(greeted.transport, peer)
        resumable = Resumable(
            link, transport, greeted.resume, dialled or peer.location, dialled is not None, known_place
        )
        self._reconnecting.add(resumable)
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
        """Log once for each other version of this package that a peer runs it."""
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
        """Make a link from an inherited socket; its other end needs no proof."""
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
        timeout: float | None = None,  # noqa: ASYNC109 - the protocol sets a bound, too
    ) -> Link:
        """Return the link to a process; open it if there is none.

        Args:
            process_id: The process's id; any other that answers there is refused.
            location: Where it listens.
            realm: Which key to use.
            timeout: Seconds for connecting and the handshake; `config.MsgTimeout` by default.

        Raises:
            PeerDisconnected: It could not be reached in time.
            ConnectionRefused: The host's kernel answered that no process listens there.
            ProcessEnded: Another process listens there.
            AuthenticationError: One of the two did not prove its identity.
        """
        link = self.links.get(process_id)
        if link is not None and not link.lost:
            return link
        if process_id == self.id:
            return await self._link_to_self()
        return await self._dial(process_id, location, realm, expect=process_id, timeout=timeout)

    async def link_at(self, location: Location, realm: bytes = b"", *, timeout: float | None = None) -> Link:  # noqa: ASYNC109 - as for `link_to`
        """Return a link to the process that listens at a location. Everything else is as in `link_to`.

        The location may differ from the one that the process announces: another address, a host name, its own name.
        An existing link is used, because a second connection would end the first one and everything that uses it.
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
        """Return a link to the process that listens at one of these addresses, or has one of these names."""
        for link in self.links.values():
            peer = link.peer
            if peer.location.port == port and not link.lost:
                node_name = peer.name.partition(" server ")[0]
                if not addrs.isdisjoint({peer.location.addr, peer.name, node_name}):
                    return link
        return None

    async def _ways_to_write(self, addr: str) -> set[str]:
        """Return the addresses of an address or host name; for this machine, all of its known addresses."""
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
                dial = _Connecting()
                try:
                    self.nursery.start_soon(self._carry_out, dial, location, realm, expect, name=f"dial {location}")
                except RuntimeError as error:  # the block of this endpoint is being left
                    message = f"this endpoint is closed and does not connect to {location}"
                    raise PeerDisconnected(message) from error
                self._dials[key] = dial
            scope = dial.attempt.scope  # the longest timeout of all waiting tasks bounds it
            scope.deadline = deadline if scope.deadline == math.inf else max(scope.deadline, deadline)
            with trio.move_on_at(deadline):
                await dial.done.wait()
            if not dial.done.is_set():  # other tasks, with a longer timeout, still wait for it
                message = f"{location} did not answer within {seconds:g} s"
                raise PeerDisconnected(message)
            if dial.error is not None:
                raise type(dial.error)(*dial.error.args) from dial.error
            if dial.link is not None:
                return dial.link
            # The peer was opening a connection, too, and that failed.

    async def _carry_out(self, dial: _Connecting, location: Location, realm: bytes, expect: bytes | None) -> None:
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
            # Peers report where others listen: the host may be an invalid name, the port an invalid port.
            dial.error = refusal_of(error) or unreachable(location, error)
        except (AuthenticationError, VersionMismatch, ProtocolError, PeerDisconnected) as error:
            dial.error = error
        else:
            if greeted is not None:
                await self._opened(dial, greeted, location)
            elif dial.attempt.scope.deadline <= trio.current_time():
                dial.error = PeerDisconnected(f"{location} did not answer within {trio.current_time() - began:.3g} s")
            else:  # the peer's own connection is used instead
                await self._await_crossed(dial, location)
        dial.attempt.end()
        self._give_up(dial)

    async def _opened(self, dial: _Connecting, greeted: Greeted, location: Location) -> None:
        """Make a link from the connection that this process has opened."""
        resumed = self.links.get(greeted.peer.process_id)
        if dial.done.is_set() and resumed is not None and not resumed.lost:  # the peer's own connection came first
            await greeted.transport.aclose()
            return
        self.reach.dropping.discard(greeted.peer.location.addr)
        link = dial.link = self._make_link(greeted, location)
        self._dialed[link] = trio.current_time()
        self._register(link)
        await self.nursery.start(link.run)

    async def _await_crossed(self, dial: _Connecting, location: Location) -> None:
        """Wait for the peer's own connection, which is on its way and wins."""
        with trio.move_on_after(config.MsgTimeout):
            await dial.done.wait()
        if not dial.done.is_set():
            dial.error = PeerDisconnected(f"{location} refused: its own connection to this process did not arrive")
            self._give_up(dial)

    def _own_credential(self, location: Location, realm: bytes) -> Credential:
        credential = self.credentials.get(realm)
        if credential is None:
            message = f"this process has no key for a connection to {location}"
            raise AuthenticationError(message)
        return credential

    async def open_connection(
        self, location: Location, credential: Credential, expect: bytes | None, attempt: Attempt
    ) -> Greeted:
        """Open a connection and shake hands over it. The attempt records the progress."""
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
        """Say goodbye on every link but `keep` and wait until they have ended; cut those that take too long."""
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
    """Return the address that a connection comes from; "" if the connection is gone already."""
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
    """Return the endpoint that encloses the calling task.

    Raises:
        RuntimeError: There is none.
    """
    endpoint = current.get()
    if endpoint is None:
        message = (
            "this needs an endpoint: enclose it in 'async with discoro.open_endpoint():', "
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
    """Listen and serve the links of one endpoint until the block is left; then say goodbye on all of them.

    Args:
        bind: The address or host name of this machine to listen at; "" for all its addresses.
        ports: The ports to try: the first free one is used; 0 for any.
        ext_addr: The address that is announced to peers, if it differs from `bind`.
        name: A name for people; None for the name of the host.
        process_id: The process's id; None for a new one.
        tls: Encrypts connections that leave the machine; None for a certificate made in memory.

    Raises:
        OptionError: The address does not belong to this machine, or no port is free.
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
