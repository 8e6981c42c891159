"""Ask a service many questions at once, and give each answer to the one who asked.

The client has one mailbox. Each question has a number that its answer carries, so that answers may come in any order,
and a late one is not taken for the answer to another question.
"""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from _command_line import Cluster


async def serve(*, coro: discoro.Coro[None]) -> None:
    """Answer questions, all at the same time. This runs at a server."""

    async def answer(customer: discoro.Coro[Any], question: int, seconds: float) -> None:
        await trio.sleep(seconds)
        await customer.send((question, f"waited {seconds} s"))

    async with trio.open_nursery() as nursery:
        async for customer, question, seconds in coro:
            nursery.start_soon(answer, customer, question, seconds)


class Client:
    """Asks a service; each question waits for its own answer."""

    def __init__(self, service: discoro.Coro[Any], mailbox: discoro.Coro[Any]) -> None:
        self._service = service
        self._mailbox = mailbox
        self._questions = itertools.count()
        self._waiting: dict[int, trio.MemorySendChannel[Any]] = {}

    async def ask(self, content: object) -> Any:
        """Ask and wait for the answer; cancelling it forgets the question."""
        question = next(self._questions)
        self._waiting[question], answers = trio.open_memory_channel[Any](1)
        try:
            await self._service.send((self._mailbox, question, content))
            return await answers.receive()
        finally:
            del self._waiting[question]

    async def take_answers(self) -> None:
        """Give each answer to its question; those to forgotten ones are dropped."""
        async for question, answer in self._mailbox:
            if question in self._waiting:
                self._waiting[question].send_nowait(answer)


@asynccontextmanager
async def open_client(service: discoro.Coro[Any]) -> AsyncIterator[Client]:
    """Open a client of a service for the block."""
    async with discoro.open_coro() as mailbox, trio.open_nursery() as nursery:
        client = Client(service, mailbox)
        nursery.start_soon(client.take_answers)
        yield client
        nursery.cancel_scope.cancel()


async def main(cluster: Cluster) -> None:
    """Ask a slow question, give it up, and ask quick ones meanwhile."""
    async with cluster, discoro.Computation([serve]).schedule() as computation:
        service = await computation.run(serve)
        async with open_client(service) as client:

            async def ask(seconds: float) -> None:
                with trio.move_on_after(0.5) as scope:
                    print(f"{seconds} s: {await client.ask(seconds)}")
                if scope.cancelled_caught:
                    print(f"{seconds} s: given up")

            async with trio.open_nursery() as nursery:
                for seconds in (0.1, 0.2, 0.8):
                    nursery.start_soon(ask, seconds)
            print(f"Then: {await client.ask(0.4)}")  # the late answer to the question of 0.8 s comes meanwhile


if __name__ == "__main__":
    options = make_parser(__doc__).parse_args()
    run(main, cluster_of(options))
