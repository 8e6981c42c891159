"""Which servers must end because their node is silent: the fork server's decisions, without I/O and without a clock.

A server whose thread is blocked can neither ask nor end itself, so the fork server does both for it. What counts is the
time in which the fork server itself ran with a question unanswered: after it was stopped, or the machine slept, it asks
again before it judges. The loop that asks and kills is with `_fork_server`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..._config import PULSES

if TYPE_CHECKING:
    from collections.abc import Iterable

REASON = f"its node was silent for {PULSES} pulses"


class NodeWatch:
    """The servers that end with their node's silence, each after five pulses of its own."""

    def __init__(self) -> None:
        self._intervals: dict[int, float] = {}
        self._asked = False
        self._silent = 0.0
        self._looked = -math.inf

    def add(self, number: int, pulse_interval: float) -> None:
        """Watch for a server, from now on with this many seconds between questions; 0 for not at all."""
        if pulse_interval > 0:
            self._intervals[number] = pulse_interval
        else:
            self.forget(number)

    def forget(self, number: int) -> None:
        """Watch for a server no more."""
        self._intervals.pop(number, None)

    def heard(self) -> None:
        """The node has said something, whatever it is."""
        self._asked = False
        self._silent = 0.0

    def due(self) -> float:
        """Return the time of the next question; infinity for never."""
        return self._looked + min(self._intervals.values()) if self._intervals else math.inf

    def look(self, now: float) -> Iterable[int]:
        """Ask the node, now that it is due; return the servers that must end."""
        shortest = min(self._intervals.values(), default=0.0)
        if self._asked:
            self._silent += min(now - self._looked, shortest)
        self._asked = True
        self._looked = now
        return [number for number, interval in self._intervals.items() if self._silent >= PULSES * interval]
