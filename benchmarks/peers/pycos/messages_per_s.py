"""Messages one way to a remote task, in batches, since `send` has no bound of its own."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks._scale import IN_FLIGHT, WARM_UP
from benchmarks.peers.pycos._node import measure_with_client
from benchmarks.peers.pycos._remote import count

if TYPE_CHECKING:
    from collections.abc import Generator


def measure(seconds: float) -> float:
    """Return messages per second, until the receiver has counted the last."""
    return measure_with_client(_figure, count, seconds=seconds, servers=1)


def _figure(client: Any, seconds: float, task: Any) -> Generator[Any, Any, float]:
    remote = yield from client.io_rtask(count, task, IN_FLIGHT)
    yield from _sent(remote, seconds * WARM_UP, task)
    begun = perf_counter()
    messages = yield from _sent(remote, seconds, task)
    duration = perf_counter() - begun
    remote.send(None)
    return messages / duration


def _sent(remote: Any, seconds: float, task: Any) -> Generator[Any, Any, int]:
    """Send batch after batch, one ahead of what the receiver has counted."""
    deadline = perf_counter() + seconds
    sent = acknowledged = 0
    while perf_counter() < deadline:
        for number in range(IN_FLIGHT):
            remote.send(number)
        sent += 1
        if sent - acknowledged > 1:
            yield task.receive()
            acknowledged += 1
    while acknowledged < sent:
        yield task.receive()
        acknowledged += 1
    return sent * IN_FLIGHT
