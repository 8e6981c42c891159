"""Drops requests and replies between processes on purpose, to test the consequences.

For programs that a test starts, the environment variable `DISCORO_TEST_LOSE` does the same: `Grant=1,Prepared=2`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._link import losses_left

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def lose_messages(**counts: int) -> Iterator[dict[str, int]]:
    """Drop the first requests or replies of some kinds that this process sends while the block lasts.

    Args:
        counts: The number to drop of each kind, by the names of the messages in `discoro_trio._cluster.messages` and
            elsewhere.

    Yields:
        The remaining number of each kind.
    """
    before = dict(losses_left)
    losses_left.update(counts)
    try:
        yield losses_left
    finally:
        losses_left.clear()
        losses_left.update(before)
