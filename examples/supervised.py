"""Keep a service running though its server is killed while it serves.

A supervisor starts the service again, on another server or on the one that replaces it. Who uses the service finds the
new one by the name that it registers, as it found the first one.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


NAME = "squares"

questions = itertools.count()


async def serve_squares(name: str, *, coro: discoro.Coro[None]) -> None:
    """Answer numbers with their squares. This runs at a server."""
    await coro.register(name)
    async for customer, question, number in coro:
        if number is None:
            os.kill(os.getpid(), signal.SIGKILL)  # what a fault of a library or the kernel's memory watch would do
        await customer.send((question, number * number))


async def ask(client: discoro.Coro[None], number: int) -> int:
    """Ask the service, again if it was lost or slow; the question's number tells its answer from late ones."""
    while True:
        question = next(questions)
        service = await discoro.locate(NAME)
        try:
            await service.deliver((client, question, number))
            with trio.fail_after(1):
                async for answered, square in client:
                    if answered == question:
                        return int(square)
        except (discoro.PeerDisconnected, discoro.MailboxClosed, discoro.ServerLost, trio.TooSlowError):
            continue


async def main(kills: int, cluster: Cluster) -> None:
    """Use the service, and kill its server now and then."""
    async with (
        cluster,
        discoro.Computation([serve_squares]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        with trio.CancelScope() as scope:
            async with discoro.open_supervisor(computation, max_restarts=kills) as supervisor:
                supervisor.start_soon(serve_squares, NAME)
                for number in range(kills + 1):
                    print(f"{number} squared is {await ask(client, number)}")
                    if number < kills:
                        service = await discoro.locate(NAME)
                        await service.send((client, next(questions), None))
                        print(f"The server of {service.location} is killed.")
                scope.cancel()
        print("The service was there for every question.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="times that its server dies (default: 3)")
    options = parser.parse_args()
    run(main, options.kills, cluster_of(options))
