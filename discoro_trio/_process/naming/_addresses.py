"""The address of a coroutine, a channel or an RCI in control messages.

This module owns that form. The objects made from it are in `_coro`, `_channels` and `_rci`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from ..._values import Location
from .._coro import Coro

if TYPE_CHECKING:
    from typing import Any


LONGEST_LABEL = 256
"""The most characters of an object's name for display."""

ProcessId = Annotated[bytes, msgspec.Meta(max_length=64)]
Realm = Annotated[bytes, msgspec.Meta(max_length=64)]


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

    home: ProcessId
    """The id of its process."""
    serial: int
    """Its number there."""
    starter: ProcessId
    """The id of the process that keeps its outcome, if it is a coroutine."""
    realm: Realm
    """The key that opens a connection to its process."""
    label: Annotated[str, msgspec.Meta(max_length=LONGEST_LABEL)]
    """Its display name."""
    addr: Annotated[str, msgspec.Meta(max_length=255)]
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
        name, window = coro.name[:LONGEST_LABEL], coro.mailbox_size
        return cls(coro.home, coro.serial, coro.starter, coro.realm, name, place.addr, place.port, window)

    def coro(self) -> Coro[Any]:
        """Return the handle of the coroutine that has this address."""
        return Coro(self.home, self.serial, self.starter, self.realm, self.label, self.location, self.window)
