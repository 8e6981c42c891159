"""The address of a coroutine, a channel or an RCI in control messages.

This module owns that form. The objects made from it are in `_coro`, `_channels` and `_rci`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from ..._values import Location
from .._coro import Coro

if TYPE_CHECKING:
    from typing import Any


class Placed(Protocol):
    """An object that belongs to a process."""

    @property
    def home(self) -> bytes:
        """The id of its process."""
        ...

    @property
    def realm(self) -> bytes:
        """The key that opens a connection to its process."""
        ...

    @property
    def location(self) -> Location:
        """Where its process listens."""
        ...


class Address(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The process of an object, and the object's number there."""

    home: bytes
    """The id of its process."""
    serial: int
    """Its number there."""
    starter: bytes
    """The id of the process that keeps its outcome, if it is a coroutine."""
    realm: bytes
    """The key that opens a connection to its process."""
    label: str
    """Its display name."""
    addr: str
    """Where its process listens."""
    port: int
    """The port there."""
    window: int
    """The number of unreceived messages that one process may have in flight, if it is a coroutine."""

    @property
    def location(self) -> Location:
        """Where its process listens."""
        return Location(self.addr, self.port)

    @classmethod
    def of(cls, coro: Coro[Any]) -> Address:
        """Return the address of a coroutine."""
        place = coro.location
        return cls(
            coro.home, coro.serial, coro.starter, coro.realm, coro.name, place.addr, place.port, coro.mailbox_size
        )

    def coro(self) -> Coro[Any]:
        """Return the handle of the coroutine that has this address."""
        return Coro(self.home, self.serial, self.starter, self.realm, self.label, self.location, self.window)
