"""The pool that every figure is measured on, and what runs in it."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks._scale import WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


@contextmanager
def open_pool() -> Iterator[ProcessPoolExecutor]:
    """Open a pool whose workers have all started."""
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(increment, range(WORKERS * 10)))
        yield pool
