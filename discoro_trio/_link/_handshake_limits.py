"""Limits for connections that have not proved who they are: how many, how long, and which one ends for another one.

A connection first has one of `MOST` places. With a valid first message of the handshake it changes to one of the places
that are kept for such, so that connections which send nothing cannot push it out. When there are too many, one of the
network, and there of the address, that has the most ends; which one is random, so that nobody can arrange it. Where
connections come from is with the endpoint; how much one may send before it has proved itself is with `_wire`.
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
"""The connections that may be shaking hands at once and have sent no valid first message."""

MOST_GREETED = 64
"""Besides those, the ones that have sent one."""

MOST_OF_ADDRESS = 16
"""Those of one address among either; a node's servers all come at once, and shake hands in a few ms."""

SECONDS = 4.0
"""How long a handshake may take, if `config.MsgTimeout` does not say less; it takes three ways of the network."""

_NETWORK_BYTES = {4: 3, 6: 6}
"""How much of an address, by version, is the same in one network, as providers give them to one customer."""


class _Stranger(MutableRecord, eq=False):
    address: str
    network: str
    scope: trio.CancelScope
    greeted: bool = False


class HandshakeLimits:
    """The connections to one endpoint that are shaking hands.

    Args:
        most: How many there may be at once, of those without a valid first message.
        most_of_address: Of these, how many of one address.
        seconds: How long a handshake may take; None for `SECONDS`, or `config.MsgTimeout` if that is less.
        most_greeted: How many there may be at once besides, of those with one.
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
        """Let the block, in which a connection of an address shakes hands, take only so long.

        An IPv6 network of 64 bits counts as one address. The block is cancelled, too, when its place is needed.
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
        """Give a connection, which has sent a valid first message, one of the places kept for such."""
        stranger = self._present.get(scope)
        if stranger is not None and not stranger.greeted:
            stranger.greeted = True
            del self._present[scope]
            self._make_room(stranger)
            self._present[scope] = stranger

    def know(self, scope: trio.CancelScope) -> None:
        """Let a connection that `admit` gave a scope go on without a limit: it has proved itself."""
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
    """Give what stands for one host, which for IPv6 is a network of 64 bits, and for its network."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return address, address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    host = found.packed if found.version == 4 else found.packed[:8]  # noqa: PLR2004 - the version
    return host.hex(), found.packed[: _NETWORK_BYTES[found.version]].hex()
