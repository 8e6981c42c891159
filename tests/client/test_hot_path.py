"""What a job costs its client, in steps of the interpreter, as a multiple of what it costs the floor of `benchmarks`.

Steps depend neither on the load nor on the speed of the machine, so a longer hot path shows here at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio

from benchmarks.floor._client import open_job_loop
from tests._steps import SAME_STEPS, least_steps

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    SAME_STEPS,
]

IN_FLIGHT = 64
ROUNDS = 5
CHUNKED_ITEMS = 20_000
RUN_RESULT, MAP = 3.8, 4.4
"""Steps of a job, as multiples of the floor's, as measured; if a change lowers them, lower these."""
CHUNKED = 21.0
"""Steps of an item in chunks of 1,000."""
MOST = 1.15
"""How much more is an error."""


async def increment(value: int) -> int:
    return value + 1


async def steps_of_a_job(call: Callable[[int], Awaitable[object]]) -> float:
    """Return the steps for a job, of many that are in flight."""

    async def caller() -> None:
        for number in range(ROUNDS):
            assert await call(number) == number + 1

    async def call_all() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(caller)

    await call_all()
    return await least_steps(call_all) / (IN_FLIGHT * ROUNDS)


async def test_a_job_takes_no_more_steps_of_the_client_than_before() -> None:
    async with open_job_loop(workers=1) as call:
        floor = await steps_of_a_job(call)
    async with open_computation([increment], servers=1, seconds=120) as computation:
        alone = await steps_of_a_job(lambda number: computation.run_result(increment, number))

        async def mapped() -> None:
            async with computation.map(increment, range(IN_FLIGHT * ROUNDS)) as results:
                assert [value async for value in results][-1] == IN_FLIGHT * ROUNDS

        async def chunked() -> None:
            async with computation.map(increment, range(CHUNKED_ITEMS), chunksize=1000) as results:
                async for _ in results:
                    pass

        await mapped()
        by_map = await least_steps(mapped) / (IN_FLIGHT * ROUNDS)
        by_chunks = await least_steps(chunked) / CHUNKED_ITEMS
    measured = {"run_result": alone / floor, "map": by_map / floor, "chunks": by_chunks}
    allowed = {"run_result": MOST * RUN_RESULT, "map": MOST * MAP, "chunks": MOST * CHUNKED}
    assert not {way: steps for way, steps in measured.items() if steps > allowed[way]}, (measured, allowed)
