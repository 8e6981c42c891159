"""Functions that carry much data: partials, methods of large objects and closures work at every size."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def total(table: Any, number: int) -> int:
    return len(table) + number


class Model:
    def __init__(self, size: int) -> None:
        self.weights = bytearray(size)

    def predict(self, number: int) -> int:
        return len(self.weights) + number


class Counting:
    """Counts how often it is pickled here."""

    pickled = 0

    def __call__(self, number: int) -> int:
        return number

    def __getstate__(self) -> dict[str, object]:
        Counting.pickled += 1
        return {"data": bytes(300_000)}


def closure(size: int) -> Callable[[int], int]:
    table = bytes(size)
    return lambda number: len(table) + number


@pytest.mark.fault("F34")
async def test_functions_of_every_size_run_by_every_way_of_running_them() -> None:
    async with open_computation([total, Model], seconds=60) as computation:
        for size in (200_000, 262_144, 900_000, 1_100_000, 5_000_000):
            for function in (partial(total, bytes(size)), Model(size).predict, closure(size)):
                expected = [size + number for number in range(10)]
                assert await computation.run_results(function, range(10)) == expected
                assert await computation.run_result(function, 1) == size + 1
                coros = await computation.run_servers(function, 2)
                assert [await coro.result() for coro in coros] == [size + 2] * 2
                async with computation.open_nursery() as nursery:
                    nursery.start_soon(function, 3)
                    assert await (await nursery.run(function, 4)).result() == size + 4
                async with computation.map(function, range(10), chunksize=3) as results:
                    assert [value async for value in results] == expected


async def test_the_function_of_a_map_is_pickled_once_for_all_jobs_and_servers() -> None:
    async with open_computation([Counting]) as computation:
        function = Counting()
        await computation.run_result(function, 0)
        once, Counting.pickled = Counting.pickled, 0
        assert await computation.run_results(function, range(50)) == list(range(50))
        assert Counting.pickled <= once
        async with computation.map(function, range(50), chunksize=4) as results:
            assert [value async for value in results] == list(range(50))
        assert Counting.pickled <= 2 * once
