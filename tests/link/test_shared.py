"""Segments: who can open them, that nobody else can write to them, and when they are used again."""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from discoro_trio import ProtocolError
from discoro_trio._config import MIB
from discoro_trio.link import _shared
from discoro_trio.link._shared import Place, Pool, map_untrusted, read_probe_untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are no sealed segments elsewhere"),
    pytest.mark.spec("B17"),
]

ME = os.getpid()
READER = object()


@contextmanager
def open_pool(size: int = 8 * MIB) -> Iterator[tuple[Pool, int]]:
    pool = Pool(size)
    probe = pool.probe()
    assert probe is not None
    try:
        yield pool, probe
    finally:
        pool.close()


def test_what_is_put_in_is_mapped_for_reading_only() -> None:
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * MIB, READER)
        assert place is not None
        with map_untrusted(ME, place, probe, MIB) as mapping:
            assert mapping[:] == b"x" * MIB
            assert memoryview(mapping).readonly
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
        pool.released(first.segment, "somebody else")
        pool.released(first.segment, READER)
        third = pool.put(bytes(MIB), READER)
        assert third is not None
        assert third.segment == first.segment


def test_segments_are_few_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared, "MOST_SEGMENTS", 2)
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
        with map_untrusted(ME, place, probe, MIB) as mapping:
            pool.lost(READER)
            pool.put(b"y" * MIB, READER)
            assert mapping[:] == b"x" * MIB


def test_the_probe_shows_the_token_to_who_can_open_it() -> None:
    with open_pool() as (one, probe), open_pool() as (two, other):
        assert read_probe_untrusted(ME, probe, other) == one.token
        assert read_probe_untrusted(ME, other, probe) == two.token
        assert read_probe_untrusted(ME, 12345, probe) == b""
        assert read_probe_untrusted(2**30, probe, probe) == b""


def token_seen_by(user: int | None, probe: int, other: int) -> bool:
    """Tell whether a process that runs as a user, or as this one's, can read the token in a probe of this process."""
    child = os.fork()
    if not child:
        status = 2
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            status = int(read_probe_untrusted(os.getppid(), probe, other) == b"")
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 1}
    return status == 0


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user")
def test_a_process_of_another_user_sees_no_segment() -> None:
    with open_pool() as (_, probe), open_pool() as (_, other):
        assert token_seen_by(None, probe, other)
        assert not token_seen_by(64501, probe, other)


def test_nothing_but_sealed_segments_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, MIB)
    file, fifo = os.open(path, os.O_RDONLY), os.open(pipe, os.O_RDWR)
    with open_pool() as (pool, probe):
        for descriptor in (file, fifo, unsealed):
            with pytest.raises(ProtocolError, match="shared buffer"):
                map_untrusted(ME, Place(1, descriptor, MIB), probe, MIB)
        place = pool.put(bytes(MIB), READER)
        assert place is not None
        for wrong in (place._replace(size=MIB + 1), place._replace(size=0), place._replace(size=2**40)):
            with pytest.raises(ProtocolError, match="shared buffer"):
                map_untrusted(ME, wrong, probe, 2**30)
        with pytest.raises(ProtocolError, match="cannot be opened"):
            map_untrusted(ME, place._replace(descriptor=99999), probe, MIB)
        with pytest.raises(ProtocolError, match="max_message_size"):
            map_untrusted(ME, place, probe, MIB - 1)
    for descriptor in (file, fifo, unsealed):
        os.close(descriptor)


def test_where_there_are_no_segments_there_is_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared, "AVAILABLE", False)
    assert Pool().probe() is None
