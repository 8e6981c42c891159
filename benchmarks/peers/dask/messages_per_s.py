"""Calls of an actor, many under way at once, since it has no message without an answer."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import Any

from benchmarks._scale import IN_FLIGHT, WARM_UP
from benchmarks.peers.dask._cluster import open_actor


def measure(seconds: float) -> float:
    """Return messages per second."""
    with open_actor() as actor:
        _put(actor, seconds * WARM_UP)
        begun = perf_counter()
        messages = _put(actor, seconds)
        return messages / (perf_counter() - begun)


def _put(actor: Any, seconds: float) -> int:
    deadline = perf_counter() + seconds
    under_way: deque[Any] = deque()
    messages = 0
    while perf_counter() < deadline:
        under_way.append(actor.put(messages))
        messages += 1
        if len(under_way) == IN_FLIGHT:
            under_way.popleft().result()
    while under_way:
        under_way.popleft().result()
    return messages
