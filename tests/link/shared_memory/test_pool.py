"""Segments: that nobody else can write to them, when they are used again, and who hears that they are not."""

from __future__ import annotations

import mmap
import os
import sys

import pytest

from discoro_trio._config import MIB
from discoro_trio._link.shared_memory import _pool
from discoro_trio._link.shared_memory._mapping import map_untrusted
from discoro_trio._link.shared_memory._pool import Pool

from .pools import ME, READER, SOMEBODY, Dropped, content, open_pool

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are no sealed segments elsewhere"),
    pytest.mark.spec("B17"),
]


@pytest.fixture
def dropped() -> Dropped:
    """Give a list for what is told to readers."""
    return []


def test_no_other_process_changes_what_is_put_in() -> None:
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * MIB, READER)
        assert place is not None
        view = map_untrusted(ME, place, probe, MIB).view(MIB, print)
        assert view == b"x" * MIB
        view[0] = 0
        assert map_untrusted(ME, place, probe, MIB).view(MIB, print) == b"x" * MIB
        with pytest.raises(PermissionError):
            mmap.mmap(place.descriptor, MIB)
        with pytest.raises(PermissionError):
            os.truncate(place.descriptor, 0)


def test_a_segment_is_used_again_only_when_its_reader_has_released_it() -> None:
    with open_pool() as (pool, _):
        first = pool.put(bytes(MIB), READER)
        second = pool.put(bytes(MIB), READER)
        assert first is not None
        assert second is not None
        assert first.segment != second.segment
        pool.released(first.segment, SOMEBODY)
        pool.released(first.segment, READER)
        third = pool.put(bytes(MIB), READER)
        assert third is not None
        assert third.segment == first.segment


def test_segments_are_few_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "MOST_SEGMENTS", 2)
    with open_pool() as (pool, _):
        first = pool.put(bytes(MIB), READER)
        assert first is not None
        assert pool.put(bytes(MIB), READER) is not None
        assert pool.put(bytes(MIB), READER) is None
        pool.released(first.segment, READER)
        assert pool.put(bytes(3 * MIB), READER) is not None


def test_what_finds_no_room_is_refused_until_there_is_some() -> None:
    with open_pool(2 * MIB) as (pool, _):
        places = [pool.put(bytes(MIB), READER) for _ in range(3)]
        assert places[2] is None
        assert pool.put(bytes(3 * MIB), READER) is None
        assert places[0] is not None
        assert places[1] is not None
        pool.released(places[0].segment, READER)
        pool.released(places[1].segment, READER)
        assert pool.put(bytes(2 * MIB), READER) is not None, "free segments make room for others"


def test_what_a_lost_reader_maps_stays_as_it_is() -> None:
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * MIB, READER)
        assert place is not None
        mapped = map_untrusted(ME, place, probe, MIB)
        pool.lost(READER)
        pool.put(b"y" * MIB, READER)
        assert content(mapped) == b"x" * MIB


def test_who_may_map_a_segment_hears_when_it_is_dropped(dropped: Dropped) -> None:
    with open_pool(3 * MIB, dropped) as (pool, _):
        for reader in (READER, SOMEBODY):
            place = pool.put(bytes(3 * MIB), reader)
            assert place is not None
            assert place.segment == 1, "one for all who read it one after the other"
            pool.released(place.segment, reader)
        assert not dropped
        assert pool.put(bytes(MIB), READER) is not None, "there was no room without dropping the other"
        assert sorted(dropped) == sorted([(READER, 1), (SOMEBODY, 1)])


def test_a_lost_reader_hears_nothing_but_the_others_do(dropped: Dropped) -> None:
    with open_pool(8 * MIB, dropped) as (pool, _):
        for reader in (SOMEBODY, READER):
            place = pool.put(bytes(MIB), reader)
            assert place is not None
            if reader is SOMEBODY:
                pool.released(place.segment, reader)
        pool.lost(READER)
        assert dropped == [(SOMEBODY, 1)]


def test_a_reader_gets_the_segment_that_it_maps_already() -> None:
    with open_pool() as (pool, _):
        first, second = pool.put(bytes(MIB), READER), pool.put(bytes(MIB), SOMEBODY)
        assert first is not None
        assert second is not None
        pool.released(first.segment, READER)
        pool.released(second.segment, SOMEBODY)
        assert pool.put(bytes(MIB), SOMEBODY) == second
        assert pool.put(bytes(MIB), READER) == first


def test_where_there_are_no_segments_there_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, "AVAILABLE", False)
    assert Pool[str](lambda _reader, _number: None).probe() is None
