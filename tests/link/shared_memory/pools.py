"""Segments of this very process, for tests: it can open its own as others do."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from discoro_trio._config import MIB
from discoro_trio._link.shared_memory._pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoro_trio._link.shared_memory._mapping import MappedSegment

Dropped = list[tuple[str, int]]
"""What readers were told: who, and which segment."""

ME = os.getpid()
READER = "the reader"
SOMEBODY = "somebody else"


@contextmanager
def open_pool(size: int = 8 * MIB, dropped: Dropped | None = None) -> Iterator[tuple[Pool[str], int]]:
    """Give a pool, which notes what it drops, and the descriptor of its probe."""
    told: Dropped = [] if dropped is None else dropped
    pool: Pool[str] = Pool(lambda reader, number: told.append((reader, number)), size)
    probe = pool.probe()
    assert probe is not None
    try:
        yield pool, probe
    finally:
        pool.close()


def content(segment: MappedSegment) -> bytes:
    """Give what is in a segment, as it is now."""
    return bytes(segment.view(segment.size, lambda _segment: None))


def mapped_here() -> int:
    """Tell how many segments this process maps privately."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sum(" rw-p " in line and "memfd:discoro" in line for line in lines)


def open_descriptors() -> int:
    """Tell how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
