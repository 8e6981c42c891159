"""Limits for unauthenticated connections: how many, how long, and which one ends when there are too many.

A connection first takes one of `MOST` places. When it sends a valid first message of the handshake, it moves to one of
the places reserved for such connections, so that connections which send nothing cannot push it out. If there are too
many, one connection ends: of the network with the most connections, and there of the address with the most. It is
chosen at random, so that an attacker cannot choose it. The endpoint knows where connections come from; `_wire` limits
how much a peer may send before it is authenticated.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._records import MutableRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 256
"""The most connections that may be shaking hands at once without a valid first message."""

MOST_GREETED = 64
"""The most that may be shaking hands besides, with a valid first message."""

MOST_OF_ADDRESS = 16
"""The most from one address, of either kind; a node's servers connect all at once, and shake hands in a few ms."""

SECONDS = 4.0
"""Seconds that a handshake may take, if `config.MsgTimeout` is not less; it needs three trips over the network."""

_NETWORK_BYTES = {4: 3, 6: 6}
"""The length in bytes of the network prefix, by IP version, that providers usually assign to one customer."""


class _Stranger(MutableRecord, eq=False):
    address: str
    network: str
    scope: trio.CancelScope
    greeted: bool = False


class HandshakeLimits:
    """The connections to one endpoint that are shaking hands.

    Args:
        most: The most connections at once without a valid first message.
        most_of_address: The most of these from one address.
        seconds: The time for a handshake, in seconds; None for `SECONDS`, or `config.MsgTimeout` if that is less.
        most_greeted: The most connections at once besides, with a valid first message.
    """

    def __init__(
        self,
        most: int = MOST,
        most_of_address: int = MOST_OF_ADDRESS,
        seconds: float | None = None,
        most_greeted: int = MOST_GREETED,
    ) -> None:
        self._most = {False: most, True: most_greeted}
        self._most_of_address = most_of_address
        self._seconds = seconds
        self._present: dict[trio.CancelScope, _Stranger] = {}
        self._random = random.SystemRandom()

    def __len__(self) -> int:
        """Count them."""
        return len(self._present)

    @contextmanager
    def admit(self, address: str) -> Iterator[trio.CancelScope]:
        """Limit the time of the block in which a connection from an address shakes hands.

        An IPv6 /64 network counts as one address. The block is also cancelled when its place is needed.
        """
        address, network = host_and_network(address)
        seconds = min(SECONDS, config.MsgTimeout) if self._seconds is None else self._seconds
        with trio.move_on_after(seconds) as scope:
            stranger = _Stranger(address, network, scope)
            self._make_room(stranger)
            self._present[scope] = stranger
            try:
                yield scope
            finally:
                self._present.pop(scope, None)

    def greeted(self, scope: trio.CancelScope) -> None:
        """Move a connection to a reserved place: it has sent a valid first message."""
        stranger = self._present.get(scope)
        if stranger is not None and not stranger.greeted:
            stranger.greeted = True
            del self._present[scope]
            self._make_room(stranger)
            self._present[scope] = stranger

    def know(self, scope: trio.CancelScope) -> None:
        """Remove the limit of a connection that was given a scope by `admit`: it is authenticated."""
        if self._present.pop(scope, None) is not None:
            scope.deadline = math.inf

    def _make_room(self, newcomer: _Stranger) -> None:
        equals = [stranger for stranger in self._present.values() if stranger.greeted is newcomer.greeted]
        own = [stranger for stranger in equals if stranger.address == newcomer.address]
        if len(own) >= self._most_of_address:
            self._end_one(own)
        elif len(equals) >= self._most[newcomer.greeted]:
            networks = Counter(stranger.network for stranger in equals)
            addresses = Counter(stranger.address for stranger in equals)
            rank = [(networks[stranger.network], addresses[stranger.address]) for stranger in equals]
            most = max(rank)
            self._end_one([stranger for stranger, its in zip(equals, rank, strict=True) if its == most])

    def _end_one(self, candidates: list[_Stranger]) -> None:
        chosen = self._random.choice(candidates)
        del self._present[chosen.scope]
        chosen.scope.cancel()


def host_and_network(address: str) -> tuple[str, str]:
    """Return the key of the host, which for IPv6 is its /64 network, and the key of its network."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address, address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    host = found.packed if found.version == 4 else found.packed[:8]  # noqa: PLR2004 - the version
    return host.hex(), found.packed[: _NETWORK_BYTES[found.version]].hex()
