"""Decides, without I/O, how long to reconnect after a broken connection and when to give up the peer.

A broken connection does not mean that the peer has ended. The peer has ended if the kernel of its host reports that no
process listens at its location, or if another process listens there. All other failures may be temporary: the dial is
repeated for up to five heartbeat intervals. Intervals in which the peer's kernel has confirmed nothing before the
connection broke count too, but one interval is always left to dial.
"""

from __future__ import annotations

import enum

from .._config import PULSES

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two dials
_OTHER_END_FIRST = 0.25
"""Seconds that the end which accepted the first connection waits: the other end is known to get through."""
_REFUSALS = 2
"""This many refusals in a row mean that no process listens there; a single one may be a process that ends or starts."""


class DialFailure(enum.Enum):
    """The reason why a dial did not lead to a connection."""

    REFUSED = "no process listens there"
    """The kernel of the host reported it."""
    ENDED = "another process listens there"
    FORGOTTEN = "the peer has given the connection up"
    UNREACHABLE = "it could not be reached"
    """Nothing was received, or something else failed."""
    SILENT = "it did not answer"
    """The kernel of the host has accepted the connection: the process lives, but its thread may be busy."""
    CROSSED = "the peer dials"
    """The peer's own connection is on its way."""


class Reconnection:
    """The attempts to connect to a peer again after its connection broke.

    Args:
        now: The time at which the connection broke.
        opened_here: Whether this end had opened it.
        known_place: Whether the dialled location certainly belongs to the peer, so that an answer from there says
            something about the peer. This is not certain behind network address translation.
        unconfirmed: Seconds before `now` in which the peer's kernel confirmed nothing of what was sent.

    Attributes:
        pause: Seconds until the next dial.
        ended: Whether the peer has certainly ended.
    """

    def __init__(self, now: float, *, opened_here: bool, known_place: bool, unconfirmed: float = 0.0) -> None:
        self.pause: float = 0.0 if opened_here else _OTHER_END_FIRST
        self.ended: bool = False
        self._broke = now
        self._since = now - unconfirmed
        self._known_place = known_place
        self._next_pause = _FIRST_PAUSE
        self._refusals = 0

    def left(self, now: float, bound: float) -> float:
        """Return the seconds until the peer is given up, if `bound` seconds are allowed."""
        return max(self._since + bound, self._broke + bound / PULSES) - now

    def failed(self, now: float, failure: DialFailure, bound: float) -> str | None:
        """Record that a dial failed.

        Args:
            now: The time.
            failure: The reason.
            bound: Seconds after which the peer is given up.

        Returns:
            The reason for giving up the peer; None to dial it again after `pause`.
        """
        self._refusals = self._refusals + 1 if failure is DialFailure.REFUSED else 0
        if failure is DialFailure.FORGOTTEN:
            return str(failure.value)
        if self._known_place and (failure is DialFailure.ENDED or self._refusals >= _REFUSALS):
            self.ended = True
            return f"the process has ended: {failure.value}"
        if failure is DialFailure.SILENT:
            self._since = now
        left = self.left(now, bound)
        if left <= 0:
            return f"{failure.value} for {bound:g} s"
        self.pause = min(self._next_pause, left)
        self._next_pause = min(2 * self._next_pause, _LONGEST_PAUSE)
        return None
