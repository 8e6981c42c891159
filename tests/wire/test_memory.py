"""The memory of large buffers: taken where it stays, and only as it is written."""

from __future__ import annotations

import ctypes
import sys

import pytest

from discoro_trio import ProtocolError
from discoro_trio._wire import _memory
from discoro_trio._wire._memory import MAPPED, BytesMemory, allocate, copied

from .._memory import resident_bytes

pytestmark = pytest.mark.spec("B17")

MIB = 1 << 20


def address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="elsewhere it is a copy")
@pytest.mark.parametrize("size", [2, MAPPED, 5 * MIB + 3])
def test_bytes_lie_where_they_were_written(size: int) -> None:
    memory = BytesMemory(size)
    address = address_of(memory.view)
    memory.view[:] = b"x" * size
    value = memory.filled()
    assert value == b"x" * size
    assert id(value) + bytes.__basicsize__ - 1 == address


@pytest.mark.parametrize("size", [0, 1, 100, 5 * MIB])
def test_bytes_are_right_even_if_a_part_of_the_memory_is_kept(size: int) -> None:
    memory = BytesMemory(size)
    kept = memory.view[: size // 2]
    memory.view[:] = b"x" * size
    value = memory.filled()
    kept[:] = b"y" * len(kept)
    assert value == b"x" * size


def test_bytes_are_right_where_python_makes_none_without_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_unwritten", bytes)
    monkeypatch.setattr(_memory, "_madvise", None)
    assert copied(memoryview(b"x" * 5 * MIB)) == b"x" * 5 * MIB


@pytest.mark.parametrize("size", [0, 1, MIB, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1])
def test_a_copy_is_equal(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    copy = copied(memoryview(content))
    assert type(copy) is bytes
    assert copy == content


@pytest.mark.fault("F12")
def test_memory_takes_room_only_where_it_is_written() -> None:
    before = resident_bytes()
    taken = [allocate(1 << 30), BytesMemory(1 << 30).view]
    for view in taken:
        view[MIB] = 1
    assert resident_bytes() - before < 8 * MIB, "a huge page each, at most"


@pytest.mark.fault("F12")
@pytest.mark.parametrize("make", [allocate, BytesMemory])
def test_more_than_there_can_be_is_an_error_of_the_peer(make: type) -> None:
    with pytest.raises(ProtocolError, match="no memory"):
        make(sys.maxsize - 100)
