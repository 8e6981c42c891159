"""Submit a number of jobs whenever a server becomes available, and collect what they send.

So the jobs that are under way grow with the servers, and no more of them are made than can be worked on.
"""

from __future__ import annotations

import collections
import itertools
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def compute(number: int, client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    """Send the client a result. This runs at a server."""
    await trio.sleep(0.01)
    await client.send((number, number**2, coro.location))


async def submit(computation: discoro.Computation, client: discoro.Coro[None], jobs: int, each: int) -> None:
    """Start some jobs at each server that becomes available, until there are no more."""
    numbers = iter(range(jobs))
    async with computation.subscribe() as messages:
        waiting = await computation.servers()
        while True:
            for location in waiting:
                for number in itertools.islice(numbers, each):
                    await computation.run_at(location, compute, number, client)
            waiting = []
            match await messages.receive():
                case discoro.MonitorException(coro=rcoro):  # a job has ended: there is room for another one
                    for number in itertools.islice(numbers, 1):
                        await computation.run_at(rcoro.location, compute, number, client)
                case discoro.DiscoroStatus(
                    status=discoro.Status.ServerInitialized, info=discoro.Location() as location
                ):
                    waiting = [location]


async def main(jobs: int, each: int, cluster: Cluster) -> None:
    """Run the jobs and print how they were spread."""
    squares: dict[int, int] = {}
    by_server: collections.Counter[discoro.Location] = collections.Counter()
    async with (
        cluster,
        discoro.open_coro("client") as client,
        discoro.Computation([compute]).schedule() as computation,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(submit, computation, client, jobs, each)
        for _ in range(jobs):
            number, square, location = await client.receive()
            squares[number] = square
            by_server[location] += 1
        nursery.cancel_scope.cancel()
    for location, count in sorted(by_server.items()):
        print(f"{location} did {count} jobs")
    print(f"The sum of {len(squares)} squares is {sum(squares.values())}.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=40, metavar="N", help="number of jobs (default: 40)")
    parser.add_argument("--each", type=int, default=4, metavar="N", help="jobs that a new server gets (default: 4)")
    options = parser.parse_args()
    run(main, options.jobs, options.each, cluster_of(options))
