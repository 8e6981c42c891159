"""The recent history of a cluster, kept by its scheduler: numbered entries, limited in number.

Monitors request the entries that are newer than their last one. Status tables show the present, the history the past.
"""

from __future__ import annotations

import secrets
from collections import deque
from itertools import count, islice

import msgspec

from .._process import EndedCoro, FailureGroup, OutputLine

KEPT_ENDED = 10_000
"""The most ended coroutines that are kept."""
MOST_ANSWERS = 6
"""The most answers that are needed for all of them."""
KEPT_FAILURES = 1_000
"""The most kinds of failures that are kept."""
KEPT_OVER = 200
"""The most computations whose final counts are kept."""
KEPT_OUTPUTS = 100
"""The most ended servers whose last output is kept."""
MOST_AT_ONCE = 2_000
"""The most ended coroutines in one answer; a monitor that is further behind asks again."""


class EndRecord(msgspec.Struct, frozen=True, array_like=True):
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
        """Its unique name, as in `Coro.id`."""
        return f"{self.server_id.hex()}-{self.coro.serial:x}"


class FailureRecord(msgspec.Struct, frozen=True, array_like=True):
    """Failures of one kind at one server."""

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


class FinalCounts(msgspec.Struct, frozen=True, array_like=True):
    """The coroutines of a computation that is over, after the last report of its servers."""

    computation: bytes
    ended: int
    failed: int
    """How many of them raised, or were lost with their server."""


class Recent(msgspec.Struct, frozen=True):
    """The entries that are newer than a monitor's last one."""

    last: int
    """The number of the newest entry; the next request asks for newer ones."""
    missed: int
    """Ended coroutines that were dropped before this monitor received them."""
    ended: list[EndRecord]
    """The oldest first."""
    failures: list[FailureRecord]
    lines: list[LastLines] = []
    """The last output of servers that have ended."""
    origin: bytes = b""
    """The history that numbers the entries: a restarted scheduler has another one."""
    over: list[FinalCounts] = []
    """The computations whose servers have all ended."""

    @property
    def whole(self) -> bool:
        """Whether there were no further entries; otherwise the monitor asks again."""
        return len(self.ended) < MOST_AT_ONCE


class History:
    """The coroutines that have ended, and the kinds of failures."""

    def __init__(self) -> None:
        self._origin = secrets.token_bytes(8)
        self._numbers = count(1)
        self._last = 0
        self._ended: deque[tuple[int, EndRecord]] = deque(maxlen=KEPT_ENDED)
        self._failures: dict[tuple[bytes, int], tuple[int, FailureRecord]] = {}
        self._lines: deque[tuple[int, LastLines]] = deque(maxlen=KEPT_OUTPUTS)
        self._over: deque[tuple[int, FinalCounts]] = deque(maxlen=KEPT_OVER)

    def _next(self) -> int:
        self._last = next(self._numbers)
        return self._last

    def ended(self, one: EndRecord) -> None:
        """Note a coroutine that has ended."""
        self._ended.append((self._next(), one))

    def failed(self, failures: FailureRecord) -> None:
        """Note that failures of one kind have increased."""
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

    def over(self, counts: FinalCounts) -> None:
        """Note the final counts of a computation."""
        self._over.append((self._next(), counts))

    def after(self, seen: int) -> Recent:
        """Return the entries that are newer than the monitor's last one.

        Args:
            seen: `Recent.last` of the last answer; 0 for all entries.
        """
        if seen > self._last:  # the number is from an earlier scheduler at this place
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
        over = [one for number, one in self._over if seen < number <= last]
        return Recent(last, missed, [one for _, one in given], failures, lines, self._origin, over)
