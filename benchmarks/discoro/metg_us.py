"""Task Bench's patterns stencil and FFT: the shortest task at which half of the processors' time is work.

Columns of tasks are coroutines that stay on their servers. In each step a column works, then exchanges messages with
the columns that its next task depends on: its neighbours in the stencil, a partner at a power of two in the FFT. METG
(minimum effective task granularity) at 50 % is the duration of a task at which a step takes twice as long as its work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from benchmarks._scale import MICROSECONDS, WORKERS
from benchmarks.discoro._cluster import open_computation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import discoro_trio as discoro

COLUMNS = 2 * WORKERS
LEAST, MOST = 2e-6, 5e-3
"""Bounds of the duration of a task, in seconds."""
EFFICIENT = 0.5
HALVINGS = 7
PATTERNS = ("trivial", "stencil", "fft", "all to all")
"""No dependence, the neighbours, a partner at a power of two, everyone."""


def partners(pattern: str, column: int, step: int) -> list[int]:
    """Return the columns with which a column exchanges messages after a step."""
    if pattern == "fft":
        return [column ^ 1 << step % (COLUMNS.bit_length() - 1)]
    if pattern == "all to all":
        return [other for other in range(COLUMNS) if other != column]
    if pattern == "trivial":
        return []
    return [other for other in (column - 1, column + 1) if 0 <= other < COLUMNS]


async def column(
    number: int, exchanges: Sequence[Sequence[int]], seconds: float, *, coro: discoro.Coro[float]
) -> float:
    """Run the tasks of one column; return the seconds that this took. The first message has all columns' handles."""
    early: dict[int, int] = {}
    columns: Any
    while type(columns := await coro.receive()) is not list:  # other columns may be ahead
        early[columns] = early.get(columns, 0) + 1
    began = time.perf_counter()
    for others in exchanges:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        for other in others:
            await columns[other].send(number)
        for other in others:
            while not early.get(other):
                sender = await coro.receive()
                early[sender] = early.get(sender, 0) + 1
            early[other] -= 1
    return time.perf_counter() - began


async def efficiency(computation: discoro.Computation, pattern: str, seconds: float, duration: float) -> float:
    """Return the part of the processors' time that is work, with tasks of so many seconds."""
    steps = max(20, min(2000, int(duration / (seconds + 0.0002))))
    servers = await computation.servers()
    columns = []
    for number in range(COLUMNS):
        exchanges = [partners(pattern, number, step) for step in range(steps)]
        place = servers[number * WORKERS // COLUMNS]
        columns.append(await computation.run_at(place, column, number, exchanges, seconds))
    for one in columns:
        await one.send(columns)
    took = max([await one.result() for one in columns])
    return steps * seconds * COLUMNS / WORKERS / took


async def granularity(computation: discoro.Computation, pattern: str, duration: float) -> float:
    """Return the shortest task, in seconds, with which a pattern is efficient."""
    least, most = LEAST, MOST
    for _ in range(HALVINGS):
        middle = (least * most) ** 0.5
        if await efficiency(computation, pattern, middle, duration) >= EFFICIENT:
            most = middle
        else:
            least = middle
    return most


def measure(seconds: float) -> float:
    """Return the larger METG of both patterns, in microseconds."""

    async def main() -> float:
        async with open_computation(column, servers=WORKERS) as computation:
            found = [await granularity(computation, pattern, seconds / HALVINGS) for pattern in ("stencil", "fft")]
            return max(found) * MICROSECONDS

    return trio.run(main)
