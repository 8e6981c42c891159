"""Segments of others: which are opened, how long they stay mapped, and that what is read in them stays as it was."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from discoro_trio import ProtocolError
from discoro_trio._config import MIB
from discoro_trio._link.shared_memory import _mapping
from discoro_trio._link.shared_memory._mapping import MappedSegment, Mappings, map_untrusted, read_probe_untrusted
from discoro_trio._link.shared_memory._pool import BufferPlace

from .pools import ME, READER, SOMEBODY, content, mapped_here, open_descriptors, open_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="there are no sealed segments elsewhere"),
    pytest.mark.spec("B17"),
]


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
                map_untrusted(ME, BufferPlace(1, descriptor, MIB), probe, MIB)
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


@pytest.fixture
def segment() -> Iterator[MappedSegment]:
    """Give a mapped segment whose bytes count up."""
    with open_pool() as (pool, probe):
        place = pool.put(np.arange(MIB, dtype=np.uint8).data, READER)
        assert place is not None
        yield map_untrusted(ME, place, probe, MIB)


USES: dict[str, Callable[[memoryview], Any]] = {
    "the view itself": lambda view: view,
    "a part of it": lambda view: view[5:9],
    "another view of it": memoryview,
    "an array": lambda view: np.frombuffer(view, dtype=np.uint8),
    "a part of an array": lambda view: np.frombuffer(view, dtype=np.int32)[2:3].T,
    "a view of an array": lambda view: np.frombuffer(view, dtype=np.uint8).data,
}


@pytest.mark.parametrize("use", USES)
def test_whatever_refers_to_a_buffer_keeps_it_in_use(use: str, segment: MappedSegment) -> None:
    gone: list[MappedSegment] = []
    user = USES[use](segment.view(MIB, gone.append))
    gc.collect()
    assert not gone
    assert user is not None
    del user
    gc.collect()
    assert gone == [segment]


@pytest.mark.spec("B29")
@pytest.mark.parametrize("page_map", [_mapping.PAGE_MAP, "/proc/self/no such file"])
def test_what_is_written_to_a_view_stays_here_until_it_is_discarded(
    page_map: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mapping, "PAGE_MAP", page_map)
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * MIB, READER)
        assert place is not None
        mine, other = (map_untrusted(ME, place, probe, MIB) for _ in range(2))
        view = mine.view(MIB, print)
        view[0] = view[5000] = view[-1] = ord("y")
        assert bytes(view[:2]) == b"yx"
        assert other.view(MIB, print) == b"x" * MIB
        del view
        pool.released(place.segment, READER)
        again = pool.put(b"z" * MIB, READER)
        assert again == place
        mine.discard_changes()
        assert mine.view(MIB, print) == b"z" * MIB


def test_pages_that_were_only_read_stay_mapped(segment: MappedSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    view = segment.view(MIB, print)
    assert sum(view[::4096]) == 0
    assert not _mapping._holds_copies(segment._address, segment.size)
    view[4096] = 1
    assert _mapping._holds_copies(segment._address, segment.size)


def test_a_segment_is_unmapped_when_nothing_refers_to_it_or_to_a_buffer_in_it() -> None:
    before = mapped_here()
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * MIB, READER)
        assert place is not None
        segment = map_untrusted(ME, place, probe, MIB)
        view = segment.view(MIB, lambda _segment: None)
        assert mapped_here() == before + 1
        del segment
    assert mapped_here() == before + 1
    assert view == b"x" * MIB, "also after its owner has closed it"
    del view
    assert mapped_here() == before


def test_mapped_segments_take_no_descriptors() -> None:
    with open_pool() as (pool, probe):
        place = pool.put(bytes(MIB), READER)
        assert place is not None
        before = open_descriptors()
        mapped = mapped_here()
        segments = [map_untrusted(ME, place, probe, MIB) for _ in range(20)]
        assert open_descriptors() == before
        assert mapped_here() == mapped + len(segments)


def test_a_segment_is_found_again_with_what_is_in_it_now() -> None:
    mappings = Mappings()
    with open_pool() as (pool, probe):
        place = pool.put(b"x" * 2 * MIB, READER)
        assert place is not None
        assert mappings.find(SOMEBODY, place) is None
        mappings.keep(SOMEBODY, place.segment, map_untrusted(ME, place, probe, 2 * MIB))
        pool.released(place.segment, READER)
        again = pool.put(b"y" * (MIB + 1), READER)
        assert again is not None
        found = mappings.find(SOMEBODY, again)
        assert found is not None
        assert content(found)[: MIB + 1] == b"y" * (MIB + 1)
        assert mappings.find(READER, place) is None, "a number says nothing without its owner"


def test_a_buffer_that_a_mapping_does_not_hold_is_not_found_in_it() -> None:
    mappings = Mappings()
    with open_pool() as (pool, probe):
        place = pool.put(bytes(8 * MIB), READER)
        assert place is not None
        small = place._replace(size=MIB)
        mappings.keep(SOMEBODY, place.segment, map_untrusted(ME, small, probe, MIB))
        assert mappings.find(SOMEBODY, place._replace(size=2 * MIB)) is not None
        assert mappings.find(SOMEBODY, place) is None


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, segment: MappedSegment) -> Iterator[tuple[Mappings, BufferPlace]]:
    """Give room for two mappings, which are taken, and where a third may be found."""
    monkeypatch.setattr(_mapping, "MOST_MAPPED", 2)
    mappings = Mappings()
    with open_pool() as (pool, probe):
        place = pool.put(bytes(MIB), READER)
        assert place is not None
        for number in (1, 2):
            assert mappings.room()
            mappings.keep(SOMEBODY, number, map_untrusted(ME, place, probe, MIB))
        yield mappings, place


def test_room_is_made_at_the_expense_of_what_was_not_used_for_longest(kept: tuple[Mappings, BufferPlace]) -> None:
    mappings, place = kept
    assert mappings.find(SOMEBODY, place._replace(segment=1)) is not None
    assert mappings.room()
    assert mappings.find(SOMEBODY, place._replace(segment=1)) is not None
    assert mappings.find(SOMEBODY, place._replace(segment=2)) is None


def test_there_is_no_room_while_all_are_in_use(kept: tuple[Mappings, BufferPlace]) -> None:
    mappings, place = kept
    used = [mappings.find(SOMEBODY, place._replace(segment=number)) for number in (1, 2)]
    for one in used:
        assert one is not None
        one.users += 1
    mappings.drop(SOMEBODY, 1)
    assert not mappings.room(), "what is dropped and in use is still mapped"
    assert mappings.find(SOMEBODY, place._replace(segment=2)) is used[1]
    used.clear()
    del one
    assert mappings.room()


def test_what_an_owner_drops_is_unmapped_and_when_it_is_lost_all(kept: tuple[Mappings, BufferPlace]) -> None:
    mappings, place = kept
    before = mapped_here()
    mappings.drop(SOMEBODY, 1)
    mappings.drop(SOMEBODY, 77)
    assert mapped_here() == before - 1
    mappings.lost(READER)
    assert mappings.find(SOMEBODY, place._replace(segment=2)) is not None
    mappings.lost(SOMEBODY)
    assert mapped_here() == before - 2
