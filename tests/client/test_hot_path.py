"""What a job costs its client, in steps of the interpreter, as a multiple of what it costs the floor of `benchmarks`.

Steps depend neither on the load nor on the speed of the machine, so a longer hot path shows here at once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import pytest
import trio

from benchmarks.floor._client import open_job_loop

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the numbers of steps differ between versions"),
]

IN_FLIGHT = 64
ROUNDS = 5
REPEATED = 6
CHUNKED_ITEMS = 20_000
RUN_RESULT, MAP = 3.8, 4.4
"""Steps of a job, as multiples of the floor's, as measured; if a change lowers them, lower these."""
CHUNKED = 21.0
"""Steps of an item in chunks of 1,000."""
MOST = 1.15
"""How much more is an error."""


class Steps:
    """Counts the steps of the interpreter in this thread while the block lasts."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode":
            self.count += 1
        else:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._called


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


async def least_steps(run: Callable[[], Awaitable[None]]) -> int:
    """Return the steps of the best of several runs: a busy machine delivers results in smaller batches."""
    counts = []
    for _ in range(REPEATED):
        with Steps() as steps:
            await run()
        counts.append(steps.count)
    return min(counts)


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
