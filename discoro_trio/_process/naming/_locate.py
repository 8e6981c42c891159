"""Finds coroutines by name; `_name_registry` exchanges names between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._arguments import text
from ..._values import optional_location
from .._current import current_process
from ._name_registry import CORO

if TYPE_CHECKING:
    from ..._values import Location
    from .._coro import Coro


async def locate(name: str, *, location: Location | str | None = None) -> Coro[Any]:
    """Wait until a coroutine has registered a name, and return its handle.

    Args:
        name: The name, as given to `Coro.register`.
        location: The program to ask, as a Location or its text: a scheduler, a node, or the program that registered it;
            by default the computation and the cluster that the calling task belongs to.

    Returns:
        The handle.

    Raises:
        TypeError, ValueError: An argument has the wrong type or form.
        RuntimeError: No endpoint encloses the task.
        PeerDisconnected: The process that keeps the name cannot be reached.

    Cancelling it ends the search.
    """
    address = await current_process().names.locate((CORO, text("name", name)), optional_location("location", location))
    return address.coro()
