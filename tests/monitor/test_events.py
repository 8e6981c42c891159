"""The event log: bounded, and kept in a small file that outlives the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from discoro_trio._monitor._events import KEPT_EVENTS, EventLog

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.spec("B39")


def test_events_outlive_the_monitor_in_a_file_that_stays_small(tmp_path: Path) -> None:
    file = tmp_path / "state" / "events.jsonl"
    log = EventLog()
    log.keep_in(file)
    for number in range(5 * KEPT_EVENTS):
        log.add(float(number), "bad", f"event {number}", view="node", key="alpha")
    assert len(file.read_text().splitlines()) <= 2 * KEPT_EVENTS
    assert file.stat().st_mode & 0o077 == 0, "others cannot read it"
    again = EventLog()
    again.keep_in(file)
    assert len(again.events) == KEPT_EVENTS
    last = again.events[-1]
    assert (last.at, last.level, last.text) == (5 * KEPT_EVENTS - 1, "bad", f"event {5 * KEPT_EVENTS - 1}")
    assert last.link == {"view": "node", "key": "alpha"}


def test_broken_lines_are_left_out_and_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'[1.0, "", "kept", {}]\n{"what": 1}\n\xff\n')
    log = EventLog()
    log.keep_in(file)
    assert [event.text for event in log.events] == ["kept"]
    other = EventLog()
    other.keep_in(tmp_path)  # a folder
    other.add(2.0, "", "goes on")
    assert [event.text for event in other.events] == ["goes on"]
