"""What a subscriber of a computation's status costs its jobs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from benchmarks._scale import WARM_UP
from benchmarks.discoro._account import Account
from benchmarks.discoro._endless import open_jobs
from discoro_trio._client import _server, _session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import discoro_trio as discoro

    Subscribe = Callable[[discoro.Computation, AsyncExitStack], Awaitable[None]]

TURN = 0.1
"""Seconds between two subscriptions: one that is too far behind for further events costs nothing more."""


def ratio(subscribe: Subscribe, seconds: float, task: str) -> float:
    """Return the processor time of jobs with a subscriber as a part of that without it.

    The time is this process's own, which holds client, scheduler and node.

    Args:
        subscribe: Makes the subscriber.
        seconds: How long it goes on.
        task: The name of the task that it reads in.
    """

    async def main() -> float:
        account = Account(task)
        async with open_jobs() as jobs:
            await trio.sleep(seconds * WARM_UP)
            with account.charging((_session, "tell_created"), (_server, "tell_ended")):
                account.begin()
                end = perf_counter() + seconds
                while perf_counter() < end:
                    async with AsyncExitStack() as stack:
                        await subscribe(jobs.computation, stack)
                        await trio.sleep(TURN)
                return 1 + account.cost()

    return trio.run(main)
