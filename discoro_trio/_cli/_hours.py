"""The hours of the day in which a node serves.

This module owns the reading of the clock on the wall. What beginning and ending to serve mean is with the program.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs
import trio

# Clocks on walls are set; so they are looked at again this often, in seconds.
_LOOK = 30.0


@attrs.frozen
class Hours:
    """From when to when, each day, as "HH:MM"."""

    start: str
    """When it begins to serve."""
    stop: str | None = None
    """When it takes no further computation."""
    end: str | None = None
    """When what still runs is ended."""

    @property
    def are_in_order(self) -> bool:
        """Whether no time to end comes before the time to stop, counted from the start."""
        if self.stop is None or self.end is None:
            return True
        return _minutes_after(self.start, self.stop) <= _minutes_after(self.start, self.end)

    def begins(self, now: datetime) -> datetime:
        """Give the moment to begin: now, if it is within the hours."""
        last = self.stop or self.end
        if last is None or next_time(now, last) < next_time(now, self.start):
            return now
        return next_time(now, self.start)

    def stops(self, begun: datetime) -> datetime | None:
        """Give the moment to take no further computation, if there is one."""
        last = self.stop or self.end
        return None if last is None else next_time(begun, last)

    def ends(self, begun: datetime) -> datetime | None:
        """Give the moment to end what still runs, if there is one."""
        return None if self.end is None else next_time(self.stops(begun) or begun, self.end)


def next_time(after: datetime, time: str) -> datetime:
    """Give the next moment, after or at another, at which the clock shows a time."""
    hour, minute = (int(part) for part in time.split(":"))
    moment = after.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return moment if moment >= after else moment + timedelta(days=1)


def _minutes_after(start: str, time: str) -> int:
    """Give the minutes from one time of the day to the next occurrence of another."""
    (hour, minute), (later_hour, later_minute) = ([int(part) for part in one.split(":")] for one in (start, time))
    return ((later_hour - hour) * 60 + later_minute - minute) % (24 * 60)


def now() -> datetime:
    """Look at the clock on the wall."""
    return datetime.now().astimezone()


async def sleep_until(moment: datetime | None) -> None:
    """Sleep until the clock on the wall shows a moment; for ever if there is none."""
    if moment is None:
        await trio.sleep_forever()
    # There is no event for a clock that is set.
    while (left := (moment - now()).total_seconds()) > 0:  # noqa: ASYNC110
        await trio.sleep(min(left, _LOOK))
