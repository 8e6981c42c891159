"""Jobs with and without a subscriber of their computation's status, in turns, and the processor time of each."""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import IN_FLIGHT, WORKERS
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import increment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import discoro_trio as discoro

    Subscribe = Callable[[discoro.Computation, AsyncExitStack], Awaitable[None]]

JOBS = 2000
"""Jobs of a turn: not so many that the subscriber is too far behind, when events are only counted."""

LEAST_PAIRS = 3


def ratio(subscribe: Subscribe, seconds: float) -> float:
    """Return the processor time of a job with a subscriber as a part of that without.

    The time is this process's own, which holds client, scheduler and node: processor time, as others use the machine.
    Turns follow each other closely, and the median of their ratios is taken, as the machine's speed changes.
    """

    async def main() -> float:
        async with open_computation(increment, servers=WORKERS) as computation:
            await _jobs(computation)
            ratios: list[float] = []
            end = time.perf_counter() + seconds
            while len(ratios) < LEAST_PAIRS or time.perf_counter() < end:
                alone = await _processor_time(computation)
                async with AsyncExitStack() as stack:
                    await subscribe(computation, stack)
                    ratios.append(await _processor_time(computation) / alone)
            return statistics.median(ratios)

    return trio.run(main)


async def _processor_time(computation: discoro.Computation) -> float:
    gc.collect()
    begun = time.process_time()
    await _jobs(computation)
    return time.process_time() - begun


async def _jobs(computation: discoro.Computation) -> None:
    numbers = iter(range(JOBS))

    async def work() -> None:
        for number in numbers:
            await computation.run_result(increment, number)

    async with trio.open_nursery() as nursery:
        for _ in range(IN_FLIGHT):
            nursery.start_soon(work)
