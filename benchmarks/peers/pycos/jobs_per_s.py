"""Many jobs at once, a remote task each."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import pycos

from benchmarks._scale import IN_FLIGHT, WARM_UP, WORKERS
from benchmarks.peers.pycos._node import measure_with_client
from benchmarks.peers.pycos._remote import increment

if TYPE_CHECKING:
    from collections.abc import Generator


def measure(seconds: float) -> float:
    """Return jobs per second."""
    return measure_with_client(_figure, increment, seconds=seconds, servers=WORKERS)


def _figure(client: Any, seconds: float, _task: Any) -> Generator[Any, Any, float]:
    yield from _counted(client, seconds * WARM_UP)
    begun = perf_counter()
    jobs = yield from _counted(client, seconds)
    return jobs / (perf_counter() - begun)


def _counted(client: Any, seconds: float) -> Generator[Any, Any, int]:
    deadline = perf_counter() + seconds
    jobs = 0
    callers = [pycos.Task(_caller, client, deadline) for _ in range(IN_FLIGHT)]
    for caller in callers:
        jobs += yield from caller()
    return jobs


def _caller(client: Any, deadline: float, task: Any = None) -> Generator[Any, Any, int]:  # noqa: ARG001
    jobs = 0
    while perf_counter() < deadline:
        job = yield from client.io_rtask(increment, jobs)
        yield from job()
        jobs += 1
    return jobs
