"""Shared values between processes: fetched once, kept as long as somebody wants them, and given up cleanly."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio import DiscoroError
from discoro_trio._link.shared_memory._sharing import Sharing
from discoro_trio._process.sharing._blob import Blob

from ..worlds import open_processes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from discoro_trio._link import Link
    from discoro_trio._process import Process

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux's"),
    pytest.mark.spec("B28"),
]

SHARE = b"s" * 16
DATA = os.urandom(3_000_001)


@pytest.fixture(autouse=True)
def _other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sharing, "open_segment_untrusted", lambda *_: None)


def offered(process: Process) -> int:
    """Let a process hold a value; give its size."""
    blob = Blob.of(DATA, ())
    process.blobs.keep(SHARE, blob)
    return blob.size


def at(process: Process, other: Process) -> Callable[[], Awaitable[Link]]:
    return lambda: process.endpoint.link_to(other.id, other.endpoint.location, b"")


async def test_those_who_want_a_value_at_once_get_one_blob_that_goes_with_the_last_of_them() -> None:
    async with open_processes(2) as (one, two):
        size = offered(one)
        blobs: list[Blob] = []

        async def get() -> None:
            blobs.append(await two.blobs.get(SHARE, size, [at(two, one)], 0))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(get)
        assert len({id(blob) for blob in blobs}) == 1
        assert (await blobs[0].read(size - 100, 100)) == DATA[-100:]
        for _ in range(3):
            assert SHARE in two.blobs._held
            two.blobs.release(SHARE)
        assert SHARE not in two.blobs._held
        one.blobs.release(SHARE)


async def test_a_fetch_that_is_cancelled_or_fails_leaves_nothing() -> None:
    async with open_processes(2) as (one, two):
        size = offered(one)
        with trio.move_on_after(0.001):
            await two.blobs.get(SHARE, size, [at(two, one)], 0)
            two.blobs.release(SHARE)
        assert not two.blobs._held
        with pytest.raises(DiscoroError, match="bytes from"):
            await two.blobs.get(SHARE, size + 10_000_000, [at(two, one)], 0)
        assert not two.blobs._held
        one.blobs.release(SHARE)


async def test_nobody_can_change_a_value_that_is_complete() -> None:
    blob = Blob.of(DATA, ())
    with pytest.raises(PermissionError):
        os.pwrite(blob.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.truncate(blob.descriptor, 10)
    blob.close()
