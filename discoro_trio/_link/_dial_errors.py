"""What the failure of a dial says about the process that was dialled."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._errors import PeerDisconnected

if TYPE_CHECKING:
    from .._values import Location


class ConnectionRefused(PeerDisconnected):
    """The kernel of the host answered that no process listens there."""


def unreachable(location: Location, error: BaseException) -> PeerDisconnected:
    """Make the error for those who wanted a connection to a place, from what opening it raised."""
    kind = ConnectionRefused if _was_refused(error) else PeerDisconnected
    return kind(f"{location} cannot be reached: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Give what the system said; of several addresses, of the first."""
    while error.__cause__ is not None or isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)


def _was_refused(error: BaseException | None) -> bool:
    """Tell whether each address of the place refused the connection."""
    if isinstance(error, BaseExceptionGroup):
        return all(_was_refused(one) for one in error.exceptions)
    if isinstance(error, ConnectionRefusedError):
        return True
    return error is not None and error.__cause__ is not None and _was_refused(error.__cause__)
