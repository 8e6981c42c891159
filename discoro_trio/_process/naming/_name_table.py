"""A table of names and their addresses in one process, in which tasks can wait for a name.

This module owns the rule that a name has one owner. Which process keeps whose names is in `_name_registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..._errors import NameTaken

if TYPE_CHECKING:
    from ._addresses import Address

Key = tuple[str, str]
"""The kind of an object and its name: coroutines, channels and RCIs have separate names."""

EVERYBODY = b""
"""The scope of names that are visible in all scopes."""


class NameTable:
    """The names of some scopes. A scope is a computation, or `EVERYBODY`."""

    def __init__(self) -> None:
        self._names: dict[Key, dict[bytes, Address]] = {}
        self._waiting: dict[Key, trio.lowlevel.ParkingLot] = {}

    def add(self, scope: bytes, key: Key, address: Address) -> None:
        """Add a name, and wake the tasks that wait for it.

        Raises:
            NameTaken: Another object has the name, in this scope or in an overlapping one.
        """
        scopes = self._names.get(key, {})
        for other, owner in scopes.items():
            if not same(owner, address) and (other == scope or EVERYBODY in (other, scope)):
                kind, name = key
                message = (
                    f"the name {name!r} belongs to the {kind} {owner.label!r} at {owner.location} already; "
                    "use another one, or wait until that one has ended"
                )
                raise NameTaken(message)
        self._names.setdefault(key, {})[scope] = address
        lot = self._waiting.get(key)
        if lot is not None:
            lot.unpark_all()

    def remove(self, scope: bytes, key: Key, address: Address) -> None:
        """Free a name, if it belongs to this address."""
        scopes = self._names.get(key, {})
        owner = scopes.get(scope)
        if owner is not None and same(owner, address):
            del scopes[scope]
            if not scopes:
                del self._names[key]

    def find(self, scope: bytes, key: Key) -> Address | None:
        """Return the address of a name in a scope; `EVERYBODY` sees all scopes."""
        scopes = self._names.get(key)
        if scopes is None:
            return None
        found = scopes.get(scope) or scopes.get(EVERYBODY)
        return found or (next(iter(scopes.values())) if scope == EVERYBODY else None)

    async def wait(self, scope: bytes, key: Key) -> Address:
        """Wait until a name is registered."""
        while True:
            found = self.find(scope, key)
            if found is not None:
                return found
            lot = self._waiting.setdefault(key, trio.lowlevel.ParkingLot())
            try:
                await lot.park()
            finally:
                if not lot and self._waiting.get(key) is lot:
                    del self._waiting[key]


def same(one: Address, other: Address) -> bool:
    """Return whether both are addresses of the same object."""
    return one.serial == other.serial and one.home == other.home
