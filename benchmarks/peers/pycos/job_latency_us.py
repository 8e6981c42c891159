"""One job at a time, as a remote task."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks._scale import MICROSECONDS, WARM_UP, WORKERS
from benchmarks.peers.pycos._node import measure_with_client
from benchmarks.peers.pycos._remote import increment

if TYPE_CHECKING:
    from collections.abc import Generator


def measure(seconds: float) -> float:
    """Return the median of one job in microseconds."""
    return measure_with_client(_figure, increment, seconds=seconds, servers=WORKERS)


def _figure(client: Any, seconds: float, _task: Any) -> Generator[Any, Any, float]:
    yield from _timed(client, seconds * WARM_UP)
    durations = yield from _timed(client, seconds)
    return statistics.median(durations) * MICROSECONDS


def _timed(client: Any, seconds: float) -> Generator[Any, Any, list[float]]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        job = yield from client.io_rtask(increment, 0)
        yield from job()
        now = perf_counter()
        durations.append(now - before)
    return durations
