"""Jobs on a computation that is opened already: the same for every way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks._load import calls_per_second, median_seconds
from benchmarks._scale import IN_FLIGHT, MICROSECONDS
from benchmarks.discoro._remote import increment

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import discoro_trio as discoro


def measure_jobs(opened: AbstractAsyncContextManager[discoro.Computation], seconds: float) -> float:
    """Return jobs per second, many at once.

    Args:
        opened: A computation with `increment`.
        seconds: How long to go on.
    """

    async def main() -> float:
        async with opened as computation:

            async def call(argument: int) -> int:
                return await computation.run_result(increment, argument)

            return await calls_per_second(call, in_flight=IN_FLIGHT, seconds=seconds)

    return trio.run(main)


def measure_job(opened: AbstractAsyncContextManager[discoro.Computation], seconds: float) -> float:
    """Return the median of one job in microseconds, one at a time. Takes the arguments of `measure_jobs`."""

    async def main() -> float:
        async with opened as computation:

            async def call(argument: int) -> int:
                return await computation.run_result(increment, argument)

            return await median_seconds(call, seconds=seconds) * MICROSECONDS

    return trio.run(main)
