"""One workload on one stage, in a process of its own: ``python -m benchmarks.savina.point STAGE WORKLOAD``.

It runs again and again for a while; standard output gets the best rate as a JSON number, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import MICROSECONDS, WORKERS
from benchmarks.discoro import metg_us
from benchmarks.discoro._cluster import open_computation
from benchmarks.savina._stages import open_servers, open_tasks
from benchmarks.savina._workloads import ACTOR_FUNCTIONS, WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks.savina._stages import Stage

SECONDS = 0.8
"""How long a workload is repeated; the first time does not count if there is a second one."""
STAGES: dict[str, Callable[[], AbstractAsyncContextManager[Stage]]] = {
    "2 servers": partial(open_servers, ACTOR_FUNCTIONS, 2),
    "1 server": partial(open_servers, ACTOR_FUNCTIONS, 1),
    "Trio tasks": open_tasks,
}
PATTERNS = tuple(metg_us.PATTERNS)
"""Those of Task Bench."""


async def rate(workload: Workload, opened: AbstractAsyncContextManager[Stage]) -> float:
    """Return how much a workload does per second: the median of its repetitions."""
    rates: list[float] = []
    async with opened as stage:
        begun = perf_counter()
        while len(rates) < 2 or perf_counter() - begun < SECONDS:  # noqa: PLR2004 - the first one warms up
            before = perf_counter()
            done = await workload.run(stage)
            rates.append(done / (perf_counter() - before))
    return sorted(rates[1:])[(len(rates) - 1) // 2]


async def granularity(pattern: str) -> float:
    """Return the METG of a pattern of Task Bench, in microseconds."""
    async with open_computation(metg_us.column, servers=WORKERS) as computation:
        return await metg_us.granularity(computation, pattern, SECONDS / metg_us.HALVINGS) * MICROSECONDS


def main(stage: str, name: str) -> None:
    """Measure, and print the number. SIGTERM ends it as an exit would, with its cleaning up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    workload = next((one for one in WORKLOADS if one.name == name), None)
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)
        value = trio.run(granularity, name) if workload is None else trio.run(rate, workload, STAGES[stage]())
        print(json.dumps(value), file=output)


if __name__ == "__main__":
    main(*sys.argv[1:])
