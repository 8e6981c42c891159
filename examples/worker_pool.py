"""Keep workers that remember something, and give each item to one that is free.

Each worker is a coroutine at a server with a state of its own: here a model that takes long to load and counts what it
has done. The client gives an item to a worker that is free and takes its answer; a worker that is lost is left out,
and its item goes to another one. For jobs without a state, use `map`.
"""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from _command_line import Cluster


class Model:
    """What a worker keeps: loading takes long, and using it changes it."""

    def __init__(self) -> None:
        self.used = 0

    def square(self, number: int) -> tuple[int, int]:
        """Return the square of a number, and how often the model was used."""
        self.used += 1
        return number * number, self.used


async def work(client: discoro.Coro[Any], crash_after: int, *, coro: discoro.Coro[None]) -> None:
    """Load the model once, then answer each item. This runs at a server."""
    model = Model()
    await client.send((coro, None))
    async for number in coro:
        if crash_after and model.used == crash_after:
            os.kill(os.getpid(), signal.SIGKILL)  # as a fault of a library would
        await client.send((coro, model.square(number)))


class Pool:
    """Workers, and which of them are free."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._free: list[discoro.Coro[None]] = []
        self._busy: dict[discoro.Coro[None], trio.MemorySendChannel[Any]] = {}
        self._freed = trio.Condition()

    async def ask(self, item: object) -> Any:
        """Give an item to a free worker and return its answer; to another worker if that one is lost."""
        while True:
            async with self._freed:
                while not self._free:
                    await self._freed.wait()
                worker = self._free.pop()
            self._busy[worker], answers = trio.open_memory_channel[Any](1)
            await worker.send(item)
            try:
                return await answers.receive()
            except trio.EndOfChannel:
                continue

    async def serve(self, mailbox: discoro.Coro[Any]) -> None:
        """Take what workers send, and what is reported of those that have ended."""
        async for message in mailbox:
            if isinstance(message, discoro.MonitorException):
                self._workers -= 1
                if not self._workers:
                    raise message.error or RuntimeError("all workers have ended")
                if message.coro in self._busy:
                    self._busy.pop(message.coro).close()
                continue
            worker, answer = message
            if worker in self._busy:
                self._busy.pop(worker).send_nowait(answer)
            async with self._freed:
                self._free.append(worker)
                self._freed.notify()


@asynccontextmanager
async def open_pool(computation: discoro.Computation, crash_after: int = 0) -> AsyncIterator[Pool]:
    """Start one worker on each server, and end them with the block."""
    async with discoro.open_coro() as mailbox, trio.open_nursery() as nursery:
        servers = await computation.servers()
        workers = [
            await computation.run_at(one, work, mailbox, crash_after if one == servers[0] else 0) for one in servers
        ]
        pool = Pool(len(workers))
        nursery.start_soon(pool.serve, mailbox)
        for worker in workers:
            await worker.monitor(mailbox)
        yield pool
        for worker in workers:
            worker.cancel()
        nursery.cancel_scope.cancel()


async def main(crash_after: int, cluster: Cluster) -> None:
    """Square some numbers."""
    async with (
        cluster,
        discoro.Computation([work, Model]).schedule() as computation,
        open_pool(computation, crash_after) as pool,
        trio.open_nursery() as nursery,
    ):

        async def show(number: int) -> None:
            square, used = await pool.ask(number)
            print(f"{number} squared is {square}, use {used} of its model")

        for number in range(8):
            nursery.start_soon(show, number)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--crash_after", type=int, default=0, metavar="N", help="items after which one server crashes")
    options = parser.parse_args()
    run(main, options.crash_after, cluster_of(options))
