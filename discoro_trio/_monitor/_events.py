"""The monitor's event log: recent events of the cluster, as text with links.

It can be kept in a small file, which outlives the monitor. The file has one JSON object per line. When it has twice as
many lines as events are kept, it is rewritten with the last events only.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import attrs
import msgspec

from .._shown import one_line

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

KEPT_EVENTS = 500
"""How many events are kept."""


@attrs.frozen
class Event:
    """One event."""

    number: int
    at: float
    """Seconds since the epoch."""
    level: str
    """`good`, `warn` or `bad`; empty for none of them."""
    text: str
    link: dict[str, str] = attrs.Factory(dict)
    """The query of the page that shows more of it."""


class EventLog:
    """The last events.

    Attributes:
        events: The oldest first.
    """

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._number = 0
        self._file: Path | None = None
        self._lines = 0

    def add(self, at: float, level: str, text: str, **link: str) -> None:
        """Note that something happened.

        Args:
            at: When, in seconds since the epoch.
            level: `good`, `warn`, `bad` or empty.
            text: What, in one line.
            link: The query of the page that shows more of it.
        """
        self._number += 1
        event = Event(self._number, at, level, one_line(text, 400), link)
        self.events.append(event)
        if self._file is not None:
            self._append(self._file, event)

    def keep_in(self, file: Path) -> None:
        """Read the events of a file and append later events to it; broken lines are skipped."""
        try:
            lines = file.read_bytes().splitlines() if file.exists() else []
        except OSError as error:
            logger.warning("the event log %s cannot be read: %s", file, error)
            return
        for line in lines[-KEPT_EVENTS:]:
            try:
                at, level, text, link = msgspec.json.decode(line, type=tuple[float, str, str, dict[str, str]])
            except msgspec.MsgspecError:
                continue
            self.add(at, level, text, **link)
        self._file = file
        self._rewrite(file)

    def _append(self, file: Path, event: Event) -> None:
        if self._lines >= 2 * KEPT_EVENTS:
            self._rewrite(file)
            return
        try:
            with file.open("ab") as opened:
                opened.write(_line(event))
        except OSError as error:
            self._give_up(file, error)
        self._lines += 1

    def _rewrite(self, file: Path) -> None:
        beside = file.with_name(f"{file.name}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside.unlink(missing_ok=True)
            beside.touch(mode=0o600)  # errors may contain private data
            beside.write_bytes(b"".join(_line(event) for event in self.events))
            beside.replace(file)
        except OSError as error:
            self._give_up(file, error)
        self._lines = len(self.events)

    def _give_up(self, file: Path, error: OSError) -> None:
        logger.warning("the event log %s cannot be written any more: %s", file, error)
        self._file = None


def _line(event: Event) -> bytes:
    return msgspec.json.encode((event.at, event.level, event.text, event.link)) + b"\n"
