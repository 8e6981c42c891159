"""Ways to keep a system that blocks busy for a while, as `_load` does for one that is awaited."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from benchmarks._scale import IN_FLIGHT, WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def per_second(work: Callable[[float], int], *, seconds: float) -> float:
    """Let a system work, and count.

    Args:
        work: Works until `perf_counter` reaches its argument, waits for what is under way, and returns how much it did.
        seconds: How long to go on, after a warm-up.

    Returns:
        How much it did per second, until all of it was done.
    """
    work(perf_counter() + seconds * WARM_UP)
    begun = perf_counter()
    done = work(begun + seconds)
    return done / (perf_counter() - begun)


def batches_per_second(batch: Callable[[], int], *, seconds: float) -> float:
    """Call one batch after the other, and count what each returns that it did; for how long, see `per_second`."""

    def work(deadline: float) -> int:
        done = 0
        while perf_counter() < deadline:
            done += batch()
        return done

    return per_second(work, seconds=seconds)


def submitted_per_second(submit: Callable[[int, Callable[[object], None]], object], *, seconds: float) -> float:
    """Keep `IN_FLIGHT` jobs under way, and count them.

    Args:
        submit: Submits the job of a number, which calls its second argument at its end, in any thread.
        seconds: As for `per_second`.
    """

    def work(deadline: float) -> int:
        room = threading.Semaphore(IN_FLIGHT)

        def done(_: object) -> None:
            room.release()

        jobs = 0
        while perf_counter() < deadline:
            room.acquire()
            submit(jobs, done)
            jobs += 1
        for _ in range(IN_FLIGHT):
            room.acquire()
        return jobs

    return per_second(work, seconds=seconds)


def requested_per_second(request: Callable[[int], T], wait: Callable[[T], object], *, seconds: float) -> float:
    """Keep `IN_FLIGHT` requests under way, wait for the oldest first, and count them.

    Args:
        request: Begins the request of a number.
        wait: Waits for one.
        seconds: As for `per_second`.
    """

    def work(deadline: float) -> int:
        in_flight: deque[T] = deque()
        requests = 0
        while perf_counter() < deadline:
            in_flight.append(request(requests))
            requests += 1
            if len(in_flight) == IN_FLIGHT:
                wait(in_flight.popleft())
        while in_flight:
            wait(in_flight.popleft())
        return requests

    return per_second(work, seconds=seconds)


def median_seconds(call: Callable[[int], object], *, seconds: float) -> float:
    """Call one at a time, and take the median of how long one takes.

    Args:
        call: What to call; it gets the number of the call.
        seconds: How long to go on; at least one call is measured.

    Returns:
        The median of one call, in seconds.
    """
    _timed(call, seconds * WARM_UP)
    return statistics.median(_timed(call, seconds))


def _timed(call: Callable[[int], object], seconds: float) -> list[float]:
    durations: list[float] = []
    begun = now = perf_counter()
    while not durations or now - begun < seconds:
        before = now
        call(len(durations))
        now = perf_counter()
        durations.append(now - before)
    return durations
