"""Errors for a dial that failed, by what the failure shows about the dialled process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._errors import PeerDisconnected

if TYPE_CHECKING:
    from .._values import Location


class ConnectionRefused(PeerDisconnected):
    """The kernel of the host answered that no process listens there."""


def unreachable(location: Location, error: BaseException) -> PeerDisconnected:
    """Make the error for a connection that could not be opened, from the exception of the attempt."""
    kind = ConnectionRefused if _was_refused(error) else PeerDisconnected
    return kind(f"{location} cannot be reached: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Return the system's error text; if several addresses failed, that of the first."""
    while error.__cause__ is not None or isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)


def _was_refused(error: BaseException | None) -> bool:
    """Return whether every address of the location refused the connection."""
    if isinstance(error, BaseExceptionGroup):
        return all(_was_refused(one) for one in error.exceptions)
    if isinstance(error, ConnectionRefusedError):
        return True
    return error is not None and error.__cause__ is not None and _was_refused(error.__cause__)
