"""What has ended and what has happened lately in a cluster, as its scheduler keeps it: numbered, and bounded.

Monitors ask for what is newer than they have seen. Tables say how things stand; this says how they came to it.
"""

from __future__ import annotations

from collections import deque
from itertools import count, islice

import msgspec

from .._process import EndedCoro, FailureGroup, OutputLine

KEPT_ENDED = 10_000
"""Coroutines that have ended and can still be asked for."""
KEPT_FAILURES = 1_000
"""Kinds of failures."""
KEPT_OUTPUTS = 100
"""Servers that have ended and the end of whose output is kept."""
MOST_AT_ONCE = 2_000
"""Ended coroutines that are given at once; who is further behind asks again."""


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """A coroutine that has ended."""

    server_id: bytes
    server: str
    """The Location of its server, as text."""
    computation: bytes
    starter: bytes
    """The id of the process that started it; empty if it is not known."""
    coro: EndedCoro

    @property
    def key(self) -> str:
        """Its name among all coroutines, as `Coro.id` gives it."""
        return f"{self.server_id.hex()}-{self.coro.serial:x}"


class Failures(msgspec.Struct, frozen=True, array_like=True):
    """Failures that are alike, at one server."""

    server_id: bytes
    server: str
    """The Location of the server, as text."""
    computation: bytes
    group: FailureGroup


class LastLines(msgspec.Struct, frozen=True, array_like=True):
    """The end of the output of a server that has ended."""

    server_id: bytes
    server: str
    """The Location of the server, as text."""
    lines: list[OutputLine]


class Recent(msgspec.Struct, frozen=True):
    """What is newer than somebody has seen."""

    last: int
    """The number of the newest of it; ask for what is newer than that the next time."""
    missed: int
    """Ended coroutines that were forgotten before they could be given."""
    ended: list[Ended]
    """The oldest first."""
    failures: list[Failures]
    lines: list[LastLines] = []
    """Of the servers that have ended."""


class History:
    """The coroutines that have ended, and the kinds of failures."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._last = 0
        self._ended: deque[tuple[int, Ended]] = deque(maxlen=KEPT_ENDED)
        self._failures: dict[tuple[bytes, int], tuple[int, Failures]] = {}
        self._lines: deque[tuple[int, LastLines]] = deque(maxlen=KEPT_OUTPUTS)

    def _next(self) -> int:
        self._last = next(self._numbers)
        return self._last

    def ended(self, one: Ended) -> None:
        """Note a coroutine that has ended."""
        self._ended.append((self._next(), one))

    def failed(self, failures: Failures) -> None:
        """Note that failures of one kind have become more."""
        key = failures.server_id, failures.group.number
        before = self._failures.pop(key, None)
        if before is not None and not failures.group.trace:
            group = msgspec.structs.replace(failures.group, trace=before[1].group.trace)
            failures = msgspec.structs.replace(failures, group=group)
        self._failures[key] = self._next(), failures
        if len(self._failures) > KEPT_FAILURES:
            del self._failures[next(iter(self._failures))]

    def wrote(self, lines: LastLines) -> None:
        """Keep the end of the output of a server that ends."""
        self._lines.append((self._next(), lines))

    def after(self, seen: int) -> Recent:
        """Return what is newer than what somebody has seen.

        Args:
            seen: The number that was given with the last answer; 0 for all that there is.
        """
        if seen > self._last:  # by another scheduler, which was here before this one
            seen = 0
        newer = []
        for entry in reversed(self._ended):
            if entry[0] <= seen:
                break
            newer.append(entry)
        newer.reverse()
        given = list(islice(newer, MOST_AT_ONCE))
        last = given[-1][0] if len(given) < len(newer) else self._last
        failures = [one for number, one in self._failures.values() if seen < number <= last]
        first = self._ended[0][0] if self._ended else self._last + 1
        missed = max(0, first - seen - 1) if seen and len(self._ended) == KEPT_ENDED else 0
        lines = [one for number, one in self._lines if seen < number <= last]
        return Recent(last, missed, [one for _, one in given], failures, lines)
