"""Opens the next connection of a link whose connection broke, from either end.

Both ends dial; `Reconnection` decides which location is dialled and for how long. The peer proves its identity with a
key that only the two ends of the link have. `ResumableTransport` keeps the bytes of the link; the endpoint opens new
links.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
import trio

from .._config import PULSES, config
from .._errors import AuthenticationError, DiscoroError, PeerDisconnected, ProtocolError
from .._records import MutableRecord
from .._wire import Crossed, ProcessEnded
from ._dial_errors import ConnectionRefused, unreachable
from ._reconnection import DialFailure, Reconnection
from .discovery._interfaces import share_a_network

if TYPE_CHECKING:
    from .._values import Location
    from .._wire import Credential, PeerIdentity
    from ._endpoint import Endpoint
    from ._handshake_io import Greeted
    from ._link import Link
    from ._resumable import ResumableTransport
    from ._transport import Transport

logger = logging.getLogger(__name__)

CROSSING_SECONDS = 1.0
"""Seconds that a connection of this end has to show that it works; the peer's connection waits that long for it."""


_SHORTEST_DIAL = 0.1  # seconds


class Attempt(MutableRecord):
    """A connection that this end opens."""

    began: float = msgspec.field(default_factory=trio.current_time)
    scope: trio.CancelScope = msgspec.field(default_factory=trio.CancelScope)
    connected: bool = False
    """Whether the kernel of the peer's host has accepted it."""
    works: bool = False
    """Whether the peer has answered."""
    over: bool = False
    settled: trio.Event = msgspec.field(default_factory=trio.Event)
    """Set when it works, or is over."""

    def answered(self) -> None:
        """Note that the peer has answered."""
        self.works = True
        self.settled.set()

    def end(self) -> None:
        """Note that it has failed, or has become a connection."""
        self.over = True
        self.settled.set()

    async def wins(self) -> bool:
        """Return whether this connection wins over one that the peer opens; if not, it is closed.

        If two connections cross, the one from the process with the lower id wins, as soon as the peer answers on it.
        If the answer takes long, a firewall may drop the packets; the connection that the peer has opened works.
        """
        with trio.move_on_at(self.began + CROSSING_SECONDS):
            await self.settled.wait()
        if self.works and not self.over:
            return True
        self.scope.cancel()
        return False


class Resumable(MutableRecord, eq=False):
    """A link that outlives its connections."""

    link: Link
    transport: ResumableTransport
    credential: Credential
    place: Location
    """Where the peer is dialled: where this end has opened the first connection, or where the peer says it listens."""
    opened_here: bool
    """Whether this end opened the first connection."""
    known_place: bool
    """Whether only the peer can answer at that place."""
    attempt: Attempt | None = None
    """The connection that this end is opening."""
    taking_over: trio.CancelScope | None = None
    """Bounds the takeover of a connection that has just begun."""
    trying: bool = False
    """Whether a task tries to connect again."""


class Reconnecting:
    """The links of one endpoint that outlive their connections, by the realm of the keys that resume them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._links: dict[bytes, Resumable] = {}
        endpoint.services.links_lost.append(self._lost)

    def add(self, one: Resumable) -> None:
        """Let a link outlive its connections from now on."""
        self._links[one.credential.realm] = one
        one.transport.broke = lambda reason: self._broke(one, reason)

    def credential(self, realm: bytes) -> Credential | None:
        """Return the key for another connection of a link."""
        one = self._links.get(realm)
        return None if one is None else one.credential

    def resumed(self, peer: PeerIdentity) -> Resumable | None:
        """Return the link that a peer resumes; None if the peer begins a new one.

        Raises:
            AuthenticationError: The link belongs to another peer.
        """
        one = self._links.get(peer.realm)
        if one is not None and one.link.peer.process_id != peer.process_id:
            message = "a peer tries to resume a link that belongs to another peer"
            raise AuthenticationError(message)
        return one

    def _lost(self, link: Link) -> None:
        for realm in [realm for realm, one in self._links.items() if one.link is link]:
            del self._links[realm]

    # --- connections that the peer opens

    async def gives_way(self, one: Resumable) -> bool:
        """Return whether the connection that the peer opens must give way to the one that this end opens."""
        attempt = one.attempt
        if attempt is None:
            return False
        if self._endpoint.id < one.link.peer.process_id:
            return await attempt.wins()
        attempt.scope.cancel()
        return False

    async def take_over(self, one: Resumable, greeted: Greeted) -> bool:
        """Continue a link over a new connection. Return whether that succeeded."""
        if one.taking_over is not None:  # the peer has abandoned that connection
            one.taking_over.cancel()
        scope = one.taking_over = trio.CancelScope(deadline=trio.current_time() + config.MsgTimeout)
        try:
            with scope:
                await one.transport.detach()
                theirs = await greeted.exchange_positions(one.transport.received)
                one.transport.attach(greeted.transport, greeted.rest, theirs)
                one.link.resumed(greeted.transport)
                return True
        except ProtocolError as error:
            one.link.fail(error)
            return False
        except (DiscoroError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.debug("the connection to %s could not be resumed: %s", one.link.peer_name, error)
        finally:
            self._took_over(one, scope)
        return False

    def _took_over(self, one: Resumable, scope: trio.CancelScope) -> None:
        if one.taking_over is scope:
            one.taking_over = None
            if one.transport.broken:
                self._broke(one, "it could not be resumed")

    # --- connections that this end opens

    def _broke(self, one: Resumable, reason: str) -> None:
        if one.trying or one.link.lost:
            return
        one.trying = True
        logger.info("the connection to %s broke (%s); trying again", one.link.peer_name, reason)
        one.link.start_soon(self._try, one, name=f"reconnect to {one.link.peer_name}")

    async def _try(self, one: Resumable) -> None:
        rules = Reconnection(
            trio.current_time(),
            opened_here=one.opened_here,
            known_place=one.known_place,
            unconfirmed=self._endpoint.keepalive.unconfirmed(one.link),
        )
        try:
            while True:
                with trio.move_on_after(rules.pause):
                    await one.transport.until(broken=False)
                    break
                if one.taking_over is not None:
                    continue
                bound = PULSES * self._endpoint.keepalive.interval(one.link)
                longest = max(rules.left(trio.current_time(), bound), _SHORTEST_DIAL)
                failure = await self._dial(one, min(config.MsgTimeout, longest))
                if not one.transport.broken:
                    break
                why = rules.failed(trio.current_time(), failure or DialFailure.CROSSED, bound)
                if why is not None:
                    one.link.fail(PeerDisconnected(why))
                    for note in self._endpoint.services.processes_ended if rules.ended else ():
                        note(one.link.peer.process_id)
                    return
            logger.info("connected to %s again", one.link.peer_name)
        finally:
            one.trying = False

    async def _dial(self, one: Resumable, seconds: float) -> DialFailure | None:
        """Open a connection and continue the link over it. Return the reason if that failed."""
        attempt = one.attempt = Attempt()
        attempt.scope.deadline = trio.current_time() + seconds
        place, peer = one.place, one.link.peer
        greeted: Greeted | None = None
        try:
            with attempt.scope:
                greeted = await self._endpoint.open_connection(place, one.credential, peer.process_id, attempt)
        except Crossed:
            return DialFailure.CROSSED
        except AuthenticationError:
            return DialFailure.FORGOTTEN
        except ProcessEnded:
            return DialFailure.ENDED
        except DiscoroError:
            return DialFailure.UNREACHABLE
        except (OSError, ValueError, OverflowError, trio.BrokenResourceError) as error:
            refused = isinstance(unreachable(place, error), ConnectionRefused)
            return DialFailure.REFUSED if refused else DialFailure.UNREACHABLE
        finally:
            attempt.end()
            one.attempt = None
        if greeted is None:
            return DialFailure.SILENT if attempt.connected else DialFailure.UNREACHABLE
        taken_over = False
        try:
            taken_over = await self.take_over(one, greeted)
        finally:
            if not taken_over:  # the link may have ended meanwhile, which cancels this task
                await greeted.transport.aclose()
        return None if taken_over else DialFailure.UNREACHABLE


def place_is_known(transport: Transport, peer: PeerIdentity) -> bool:
    """Return whether a peer that has connected to this process can certainly be reached at its announced location.

    This holds if its connection comes from that address, from this machine, or by the other protocol, IPv4 or IPv6,
    from the same network: both addresses are then the peer's, as there is no address translation within a network.
    """
    sock = transport.socket
    if sock is None:
        return False
    try:
        (source, _port, *rest), here = sock.getpeername(), sock.getsockname()[0]
    except OSError:
        return False
    announced = peer.location.addr
    zone = rest[1] if len(rest) > 1 else 0
    return source in {announced, here} or share_a_network(source, announced, zone)
