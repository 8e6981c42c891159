"""How long a broken connection is tried again, and when its peer is given up: decisions without I/O.

A broken connection is no death. The peer has ended if the kernel of its host says that no process listens where it did,
or if another process does. Everything else may pass, and is tried again until the bound of five heartbeat intervals.
"""

from __future__ import annotations

import enum

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two dials
_OTHER_END_FIRST = 0.25
"""Seconds that the end which was connected to leaves to the other one, which is known to get through."""
_REFUSALS = 2
"""So many refusals in a row mean that no process listens there any more; one may be a process that ends or starts."""


class Failure(enum.Enum):
    """Why a dial did not lead to a connection."""

    REFUSED = "no process listens there"
    """The kernel of the host said so."""
    ENDED = "another process listens there"
    FORGOTTEN = "the peer has given the connection up"
    UNREACHABLE = "it could not be reached"
    """Nothing was heard, or something else failed."""
    SILENT = "it did not answer"
    """The kernel of the host has opened the connection: the process lives, and its thread may be busy."""
    CROSSED = "the peer dials"
    """The peer's own connection is under way."""


class Reconnection:
    """The attempts to connect to a peer again, since a connection broke.

    Args:
        now: When it broke.
        opened_here: Whether this end had opened it.
        known_place: Whether it is certain that the place that is dialled is the peer's own, so that what answers there
            says something about the peer; not so behind network address translation.

    Attributes:
        pause: Seconds until the next dial.
        ended: Whether the peer has certainly ended.
    """

    def __init__(self, now: float, *, opened_here: bool, known_place: bool) -> None:
        self.pause: float = 0.0 if opened_here else _OTHER_END_FIRST
        self.ended: bool = False
        self._since = now
        self._known_place = known_place
        self._next_pause = _FIRST_PAUSE
        self._refusals = 0

    def failed(self, now: float, failure: Failure, bound: float) -> str | None:
        """Note that a dial failed.

        Args:
            now: The time.
            failure: Why.
            bound: Seconds after which the peer is given up.

        Returns:
            Why the peer is given up; None if it is dialled again after `pause`.
        """
        self._refusals = self._refusals + 1 if failure is Failure.REFUSED else 0
        if failure is Failure.FORGOTTEN:
            return str(failure.value)
        if self._known_place and (failure is Failure.ENDED or self._refusals >= _REFUSALS):
            self.ended = True
            return f"the process has ended: {failure.value}"
        if failure is Failure.SILENT:
            self._since = now
        if now - self._since >= bound:
            return f"{failure.value} for {bound:g} s"
        self.pause = min(self._next_pause, max(self._since + bound - now, 0.0))
        self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
        return None
