"""Round trips of a message between this process and a remote task."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks._scale import WARM_UP
from benchmarks.peers.pycos._remote import echo

if TYPE_CHECKING:
    from collections.abc import Generator


def median_round_trip(client: Any, message: object, seconds: float, task: Any) -> Generator[Any, Any, float]:
    """Send the message there and back again and again; the median of one, in seconds."""
    remote = yield from client.io_rtask(echo, task)
    yield from _timed(remote, message, seconds * WARM_UP, task)
    durations = yield from _timed(remote, message, seconds, task)
    remote.send(None)
    return statistics.median(durations)


def _timed(remote: Any, message: object, seconds: float, task: Any) -> Generator[Any, Any, list[float]]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        remote.send(message)
        yield task.receive()
        now = perf_counter()
        durations.append(now - before)
    return durations
