"""Decides which servers must end because their node is silent, for the fork server; without I/O and without a clock.

A server whose thread is blocked can neither check its node nor end itself, so the fork server does both. Only time in
which the fork server itself ran with an unanswered request counts: after it was stopped, or the machine slept, it sends
a new request first. The loop that sends the requests and kills servers is in `_fork_server`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._config import PULSES

if TYPE_CHECKING:
    from collections.abc import Iterable

REASON = f"its node was silent for {PULSES} pulse intervals"


class NodeWatch:
    """The servers that end when their node is silent, each after five of its own pulse intervals."""

    def __init__(self) -> None:
        self._intervals: dict[int, float] = {}
        self._asked = False
        self._silent = 0.0
        self._looked = -math.inf

    def add(self, number: int, pulse_interval: float) -> None:
        """Watch the node for a server, with this many seconds between requests; 0 to stop."""
        if pulse_interval > 0:
            self._intervals[number] = pulse_interval
        else:
            self.forget(number)

    def forget(self, number: int) -> None:
        """Stop watching the node for a server."""
        self._intervals.pop(number, None)

    def heard(self) -> None:
        """Note that the node has sent a message of any kind."""
        self._asked = False
        self._silent = 0.0

    def due(self) -> float:
        """Return the time of the next request; infinity for never."""
        return self._looked + min(self._intervals.values()) if self._intervals else math.inf

    def look(self, now: float) -> Iterable[int]:
        """Note that a request is sent to the node, as it is due; return the servers that must end."""
        shortest = min(self._intervals.values(), default=0.0)
        if self._asked:
            self._silent += min(now - self._looked, shortest)
        self._asked = True
        self._looked = now
        return [number for number, interval in self._intervals.items() if self._silent >= PULSES * interval]
