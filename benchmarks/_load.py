"""Ways to keep a system that is awaited busy for a while, and count.

What is called belongs to the figure's module; here is only how often, how many at once, and the clock.
For systems that block there is `_blocking_load`.
"""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def calls_per_second(call: Callable[[int], Awaitable[object]], *, in_flight: int, seconds: float) -> float:
    """Keep `in_flight` Trio tasks calling, one call after the other each.

    Args:
        call: What to await; it gets the number of the call in its task.
        in_flight: How many calls are under way at once.
        seconds: How long new calls are begun; each task begins one at least.

    Returns:
        Calls per second, until the last one that was begun has ended.
    """
    await _counted(call, in_flight, seconds * WARM_UP)
    begun = perf_counter()
    count = await _counted(call, in_flight, seconds)
    return count / (perf_counter() - begun)


async def _counted(call: Callable[[int], Awaitable[object]], in_flight: int, seconds: float) -> int:
    deadline = perf_counter() + seconds
    counts: list[int] = []

    async def caller() -> None:
        count = 0
        while not count or perf_counter() < deadline:
            await call(count)
            count += 1
        counts.append(count)

    async with trio.open_nursery() as nursery:
        for _ in range(in_flight):
            nursery.start_soon(caller)
    return sum(counts)


async def median_seconds(call: Callable[[int], Awaitable[object]], *, seconds: float) -> float:
    """Call one at a time, under any event loop, and take the median of how long one takes.

    Args:
        call: What to await; it gets the number of the call.
        seconds: How long to go on; at least one call is measured.

    Returns:
        The median of one call, in seconds.
    """
    await _timed(call, seconds * WARM_UP)
    return statistics.median(await _timed(call, seconds))


async def _timed(call: Callable[[int], Awaitable[object]], seconds: float) -> list[float]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        await call(len(durations))
        now = perf_counter()
        durations.append(now - before)
    return durations
