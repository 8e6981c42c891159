"""Ways to keep a system that blocks busy for a while, as `_load` does for one that is awaited."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks._scale import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable


def per_second(work: Callable[[float], int], *, seconds: float) -> float:
    """Let a system work, and count.

    Args:
        work: Works until `perf_counter` reaches its argument, waits for what is under way, and returns how much it did.
        seconds: How long to go on, after a warm-up.

    Returns:
        How much it did per second, until all of it was done.
    """
    work(perf_counter() + seconds * WARM_UP)
    begun = perf_counter()
    done = work(begun + seconds)
    return done / (perf_counter() - begun)


def median_seconds(call: Callable[[int], object], *, seconds: float) -> float:
    """Call one at a time, and take the median of how long one takes.

    Args:
        call: What to call; it gets the number of the call.
        seconds: How long to go on; at least one call is measured.

    Returns:
        The median of one call, in seconds.
    """
    _timed(call, seconds * WARM_UP)
    return statistics.median(_timed(call, seconds))


def _timed(call: Callable[[int], object], seconds: float) -> list[float]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        call(len(durations))
        now = perf_counter()
        durations.append(now - before)
    return durations
