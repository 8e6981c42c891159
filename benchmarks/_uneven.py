"""Sets of uneven jobs, what their workers do, and how long the sets must take at least.

The workers of other systems import this too, so it needs nothing but the standard library.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def greedy(jobs: Sequence[float], speeds: Sequence[float]) -> float:
    """Return the time of jobs of which each goes to the server that ends it first.

    Args:
        jobs: The seconds of each job at a server of speed 1.
        speeds: The speed of each server.
    """
    free = [0.0] * len(speeds)
    for job in jobs:
        ends = [at + job / speed for at, speed in zip(free, speeds, strict=True)]
        first = ends.index(min(ends))
        free[first] = ends[first]
    return max(free)


def ideal(jobs: Sequence[Job], taken: Sequence[float], speeds: Sequence[float]) -> float:
    """Return the time that jobs allow which took so many seconds each; those that wait do so side by side."""
    work = [seconds for (kind, _), seconds in zip(jobs, taken, strict=True) if kind == "work"]
    waits = [seconds for (kind, seconds), _ in zip(jobs, taken, strict=True) if kind == "wait"]
    return max(greedy(work, speeds), max(waits, default=0.0))


def spin(seconds: float) -> None:
    """Use the processor for some seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def plain_work(kind: str, seconds: float, asleep: bool) -> float:  # noqa: FBT001 - sent by position
    """Work or wait, and return the seconds that it took."""
    began = time.perf_counter()
    if asleep or kind == "wait":
        time.sleep(seconds)
    else:
        spin(seconds)
    return time.perf_counter() - began


def timed_sets(
    run_all: Callable[[list[tuple[str, float, bool]]], list[float]],
    sets: Sequence[Sequence[Job]],
    *,
    asleep: bool,
) -> list[list[float]]:
    """Run sets of jobs one after the other, after a short one that wakes all workers.

    Args:
        run_all: Runs `plain_work` with each of these arguments at once, and returns the results in order.
        sets: The jobs of each set.
        asleep: Whether jobs sleep in place of working.

    Returns:
        For each set the seconds that it took, and then those of each job.
    """
    run_all([("work", 0.01, asleep)] * 20)
    found = []
    for jobs in sets:
        items = [(kind, seconds, asleep) for kind, seconds in jobs]
        began = time.perf_counter()
        taken = run_all(items)
        found.append([time.perf_counter() - began, *taken])
    return found
