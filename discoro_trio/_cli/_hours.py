"""The hours of the day in which a node serves.

This module owns the reading of local time. The program decides what starting and stopping service mean.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs
import trio

# The system clock can be set; so it is read again after this many seconds.
_LOOK = 30.0


@attrs.frozen
class Hours:
    """The daily hours of service, as "HH:MM"."""

    start: str
    """When the service starts."""
    stop: str | None = None
    """When the node stops accepting computations."""
    end: str | None = None
    """When computations that still run are ended."""

    @property
    def are_in_order(self) -> bool:
        """Whether the end does not come before the stop, counted from the start."""
        if self.stop is None or self.end is None:
            return True
        return _minutes_after(self.start, self.stop) <= _minutes_after(self.start, self.end)

    def begins(self, now: datetime) -> datetime:
        """Return the time to start: now, if it is within the hours."""
        last = self.stop or self.end
        if last is None or next_time(now, last) < next_time(now, self.start):
            return now
        return next_time(now, self.start)

    def stops(self, begun: datetime) -> datetime | None:
        """Return the time to stop accepting computations, if there is one."""
        last = self.stop or self.end
        return None if last is None else next_time(begun, last)

    def ends(self, begun: datetime) -> datetime | None:
        """Return the time to end computations that still run, if there is one."""
        return None if self.end is None else next_time(self.stops(begun) or begun, self.end)


def next_time(after: datetime, time: str) -> datetime:
    """Return the next moment, at or after another one, at which the clock shows a time."""
    hour, minute = (int(part) for part in time.split(":"))
    moment = after.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return moment if moment >= after else moment + timedelta(days=1)


def _minutes_after(start: str, time: str) -> int:
    """Return the minutes from one time of the day to the next occurrence of another."""
    (hour, minute), (later_hour, later_minute) = ([int(part) for part in one.split(":")] for one in (start, time))
    return ((later_hour - hour) * 60 + later_minute - minute) % (24 * 60)


def now() -> datetime:
    """Return the local time."""
    return datetime.now().astimezone()


async def sleep_until(moment: datetime | None) -> None:
    """Sleep until a moment of local time; for ever if there is none."""
    if moment is None:
        await trio.sleep_forever()
    # No event reports that a clock was set.
    while (left := (moment - now()).total_seconds()) > 0:  # noqa: ASYNC110
        await trio.sleep(min(left, _LOOK))
