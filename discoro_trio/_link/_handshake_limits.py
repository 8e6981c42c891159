"""Those who have connected and not yet proved who they are: how many, how long, and who goes when another comes.

This module owns the limits. Where connections come from is with the endpoint; how much one may send before it has
proved itself is with `_wire`.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

import trio

from .._config import config
from .._records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 64
"""The connections that may be shaking hands at once."""

MOST_OF_ADDRESS = 16
"""Those of one address among them; a node's servers all come at once, and shake hands in a few ms."""

SECONDS = 4.0
"""How long a handshake may take, if `config.MsgTimeout` does not say less; it takes three ways of the network."""


class _Stranger(Record, frozen=True, eq=False):
    address: str
    scope: trio.CancelScope


class HandshakeLimits:
    """The connections to one endpoint that are shaking hands.

    Args:
        most: How many there may be at once.
        most_of_address: Of these, how many of one address.
        seconds: How long one may be a stranger; None for `SECONDS`, or `config.MsgTimeout` if that is less.
    """

    def __init__(self, most: int = MOST, most_of_address: int = MOST_OF_ADDRESS, seconds: float | None = None) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._seconds = seconds
        self._present: dict[_Stranger, None] = {}  # the oldest first

    def __len__(self) -> int:
        """Count them."""
        return len(self._present)

    @contextmanager
    def admit(self, address: str) -> Iterator[trio.CancelScope]:
        """Let the block, in which a connection of an address shakes hands, take only so long.

        One who has a network of IPv6 to himself, which is the least that anybody is given, counts as one address.
        When there are too many, the oldest of the address that has the most is cancelled: one who opens hundreds
        pushes out his own.
        """
        address = _whose(address)
        self._make_room(address)
        seconds = min(SECONDS, config.MsgTimeout) if self._seconds is None else self._seconds
        with trio.move_on_after(seconds) as scope:
            stranger = _Stranger(address, scope)
            self._present[stranger] = None
            try:
                yield scope
            finally:
                self._present.pop(stranger, None)

    def know(self, scope: trio.CancelScope) -> None:
        """Let a connection that `admit` gave a scope go on for as long as it likes: it has proved itself."""
        for stranger in [one for one in self._present if one.scope is scope]:
            del self._present[stranger]
            scope.deadline = math.inf

    def _make_room(self, address: str) -> None:
        counts = Counter(stranger.address for stranger in self._present)
        if counts[address] >= self._most_of_address:
            self._push_out(address)
        elif len(self._present) >= self._most:
            most = max(counts.values())
            self._push_out(next(one.address for one in self._present if counts[one.address] == most))

    def _push_out(self, address: str) -> None:
        oldest = next(stranger for stranger in self._present if stranger.address == address)
        del self._present[oldest]
        oldest.scope.cancel()


def _whose(address: str) -> str:
    """Give what stands for all addresses of one host: of IPv6 the first 64 bits, by which networks are told apart."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return address
    mapped = found.ipv4_mapped
    return str(mapped) if mapped is not None else found.packed[:8].hex(":", 2)
