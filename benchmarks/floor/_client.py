"""The client's side of the floor's job loop: a call is a frame there, a frame back, a task that waits."""

from __future__ import annotations

import pickle
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

import outcome
import trio

from benchmarks.floor._frames import Outbox, frame, read_frames
from benchmarks.floor._workers import open_workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

INCREMENT = 0
"""The number of the job's function in `benchmarks.floor._worker.FUNCTIONS`."""


class JobLink:
    """A connection to one worker, with the tasks that wait for its results."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        self._numbers = count()
        self.outbox = Outbox(stream)

    async def call(self, function: int, *args: object) -> Any:
        """Have the worker run a function, and return its value. Cancelling forgets the call."""
        number = next(self._numbers)
        self._waiting[number] = trio.lowlevel.current_task()
        self.outbox.put(frame(number, pickle.dumps((function, args), 5)))

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[number]
            return trio.lowlevel.Abort.SUCCEEDED

        return pickle.loads(await trio.lowlevel.wait_task_rescheduled(abort))

    async def read(self) -> None:
        """Wake each waiting task with the bytes of its result, until the worker ends."""
        async for frames in read_frames(self._stream):
            for number, body in frames:
                trio.lowlevel.reschedule(self._waiting.pop(number), outcome.Value(body))


@asynccontextmanager
async def open_job_loop(*, workers: int) -> AsyncIterator[Callable[[int], Awaitable[object]]]:
    """Start workers, and yield an async function that runs one job on the next of them in turn."""
    async with open_workers("jobs", count=workers) as streams, trio.open_nursery() as nursery:
        links = [JobLink(stream) for stream in streams]
        for link in links:
            nursery.start_soon(link.outbox.write)
            nursery.start_soon(link.read)
        turns = cycle(links)

        async def call(argument: int) -> object:
            return await next(turns).call(INCREMENT, argument)

        yield call
        nursery.cancel_scope.cancel()
