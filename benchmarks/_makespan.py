"""How long whole sets of uneven jobs take, as parts of what the work and the processors allow.

Each cell is one workload in one way: its time from the first start to the last result, as a part of its ideal. The
ideal is the greatest of the sum of all jobs over the servers and the longest job; for jobs that come in a bad order,
what comes of giving each to the server that is free first. The jobs report what they took, so a machine that is busy
otherwise changes the ideal, too. The mark is `MOST` of the ideal and `SLACK` seconds.
"""

from __future__ import annotations

import heapq
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

MOST = 1.10
"""Of the ideal."""
SLACK = 0.03
"""Seconds."""

Job = tuple[str, float]
"""`"work"` or `"wait"`, and the seconds."""


def workloads(servers: int, unit: float) -> dict[str, list[Job]]:
    """Make the sets of jobs.

    Args:
        servers: How many servers there are.
        unit: The seconds of a short job.
    """
    rng = random.Random(7)
    short = 15 * servers
    pareto = [min(unit / 3 * rng.paretovariate(1.1), 20 * unit) for _ in range(2 * short)]

    def work(seconds: Sequence[float]) -> list[Job]:
        return [("work", one) for one in seconds]

    return {
        "even": work([unit] * 2 * short),
        "Pareto 1.1": work(pareto),
        "one long first": work([short * unit / servers * 2, *[unit] * short]),
        "two long early": work([unit, 10 * unit, 10 * unit, *[unit] * short]),
        "long ones last": work([unit] * short + [5 * unit] * servers),
        "staircase": work([unit * (number + 1) / 10 for number in range(2 * short)]),
        "half wait, half work": [("wait" if number % 2 else "work", 2 * unit) for number in range(2 * short)],
    }


def greedy(jobs: Sequence[float], servers: int) -> float:
    """Give the time of jobs of which each goes to the server that is free first."""
    free = [0.0] * servers
    for job in jobs:
        heapq.heappush(free, heapq.heappop(free) + job)
    return max(free)


def ideal(jobs: Sequence[Job], taken: Sequence[float], servers: int) -> float:
    """Give the time that jobs allow which took so many seconds; those that wait do so side by side."""
    work = [seconds for (kind, _), seconds in zip(jobs, taken, strict=True) if kind == "work"]
    waits = [seconds for (kind, seconds), _ in zip(jobs, taken, strict=True) if kind == "wait"]
    return max(greedy(work, servers), max(waits, default=0.0))


# --- jobs; all give the seconds that they took


def spin(seconds: float) -> None:
    """Use the processor for some seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def async_work(kind: str, seconds: float, asleep: bool) -> float:  # noqa: FBT001 - sent by position
    """Block the server, or wait."""
    began = time.perf_counter()
    if kind == "wait":
        await trio.sleep(seconds)
    elif asleep:
        time.sleep(seconds)  # noqa: ASYNC251 - that is what is measured
    else:
        spin(seconds)
    return time.perf_counter() - began


def plain_work(kind: str, seconds: float, asleep: bool) -> float:  # noqa: FBT001 - sent by position
    """Do the same in a thread."""
    began = time.perf_counter()
    if asleep or kind == "wait":
        time.sleep(seconds)
    else:
        spin(seconds)
    return time.perf_counter() - began


async def async_item(item: tuple[str, float, bool]) -> float:
    """Do `async_work`, of one argument."""
    return await async_work(*item)


def plain_item(item: tuple[str, float, bool]) -> float:
    """Do `plain_work`, of one argument."""
    return plain_work(*item)


# --- ways to run them

Items = list[tuple[str, float, bool]]


async def by_map(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `starmap`."""
    async with computation.starmap(function, items) as results:
        return [value async for value in results]


async def by_run_results(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run_results`, with one argument."""
    return await computation.run_results(async_item if function is async_work else plain_item, items)


async def by_nursery(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run` of a nursery over the servers."""
    async with computation.open_nursery() as nursery:
        coros = [await nursery.run(function, *item) for item in items]
        return [await coro.result() for coro in coros]


async def by_run_result(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use many calls of `run_result`, which begin in order."""
    taken = [0.0] * len(items)

    async def one(number: int) -> None:
        taken[number] = await computation.run_result(function, *items[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(items)):
            nursery.start_soon(one, number)
            await trio.lowlevel.checkpoint()
    return taken


async def by_run(computation: discoro.Computation, function: Callable[..., Any], items: Items) -> list[float]:
    """Use `run` in a loop."""
    coros = [await computation.run(function, *item) for item in items]
    return [await coro.result() for coro in coros]


WAYS: dict[str, Callable[[discoro.Computation, Callable[..., Any], Items], Awaitable[list[float]]]] = {
    "map": by_map,
    "run_results": by_run_results,
    "nursery": by_nursery,
    "run_result": by_run_result,
    "run": by_run,
}


# --- the table


@frozen
class Cell:
    """One workload in one way."""

    way: str
    took: float
    """Seconds."""
    best: float
    """The ideal, in seconds."""

    @property
    def part(self) -> float:
        """What it took, as a part of the ideal."""
        return self.took / self.best

    @property
    def reached(self) -> bool:
        """Whether it reaches the mark."""
        return self.took <= MOST * self.best + SLACK


@frozen
class Setting:
    """Servers and jobs."""

    name: str
    servers: int
    asleep: bool
    """Whether jobs sleep in place of working, so that there may be more servers than processors."""
    plain: bool
    unit: float
    """Seconds of a short job."""

    @property
    def function(self) -> Callable[..., Any]:
        """What is run."""
        return plain_work if self.plain else async_work


SETTINGS = (
    Setting("2 servers, async jobs that compute", 2, asleep=False, plain=False, unit=0.02),
    Setting("2 servers, plain jobs that compute", 2, asleep=False, plain=True, unit=0.02),
    Setting("8 servers, async jobs that block", 8, asleep=True, plain=False, unit=0.02),
)


@asynccontextmanager
async def scheduled(servers: int) -> AsyncIterator[discoro.Computation]:
    """Open a cluster with a computation."""
    async with (
        discoro.open_cluster(servers=servers),
        discoro.Computation([async_work, plain_work, async_item, plain_item, spin]).schedule() as computation,
    ):
        yield computation


async def _measured(setting: Setting, way: str, jobs: list[Job], computation: discoro.Computation, name: str) -> Cell:
    items = [(kind, seconds, setting.asleep) for kind, seconds in jobs]
    began = trio.current_time()
    taken = await WAYS[way](computation, setting.function, items)
    return Cell(name, trio.current_time() - began, ideal(jobs, taken, setting.servers))


def _by_pool(setting: Setting, jobs: list[Job]) -> Cell:
    """Run the jobs by ProcessPoolExecutor, once its processes are there."""
    with ProcessPoolExecutor(setting.servers) as pool:
        list(pool.map(spin, [0.01] * 2 * setting.servers))
        began = time.perf_counter()
        futures = [pool.submit(plain_work, kind, seconds, setting.asleep) for kind, seconds in jobs]
        taken = [future.result() for future in futures]
        return Cell("ProcessPoolExecutor", time.perf_counter() - began, ideal(jobs, taken, setting.servers))


def _show(workload: str, cells: list[Cell]) -> None:
    shown = "  ".join(f"{cell.way} {cell.part:.2f}{'' if cell.reached else '!'}" for cell in cells)
    print(f"  {workload:22}{cells[0].best:6.2f} s  {shown}", flush=True)


async def _run(settings: Sequence[Setting], ways: Sequence[str]) -> bool:
    missed = 0
    for setting in settings:
        print(f"\n{setting.name}: parts of the ideal; '!' is beyond {MOST:g} of it and {SLACK * 1000:.0f} ms")
        for workload, jobs in workloads(setting.servers, setting.unit).items():
            if setting.plain and workload == "half wait, half work":
                continue
            first, warm = [], []
            for way in ways:
                async with scheduled(setting.servers) as computation:
                    first.append(await _measured(setting, way, jobs, computation, way))
                    warm.append(await _measured(setting, way, jobs, computation, way))
            pool = await trio.to_thread.run_sync(_by_pool, setting, jobs)
            _show(workload, [*first, pool])
            _show("  warm", warm)
            missed += sum(not cell.reached for cell in first + warm)
    print(f"\n{missed} cells miss the mark")
    return not missed


def run(*, quick: bool) -> bool:
    """Print the table; tell whether all cells reach the mark."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before")
    settings = SETTINGS[2:] if quick else SETTINGS
    return trio.run(_run, settings, ("map", "run") if quick else tuple(WAYS))
