"""Run CPU-bound jobs, at most one on a server at a time, and watch what happens in three ways at once.

Status messages go to a coroutine of this program, which prints them, to a subscriber, which counts them, and to the
web monitor, which shows them. `ProcScheduler`, which places the jobs, hears of the servers at the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


def count_primes(low: int, high: int) -> int:
    """Count the primes in a range, slowly. This runs in a thread of a server."""
    return sum(
        number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        for number in range(low, high)
    )


async def show(status: discoro.Coro[None]) -> None:
    """Print what happens to nodes and servers, until the computation is closed."""
    async for message in status:
        if isinstance(message, discoro.DiscoroStatus) and not isinstance(message.info, discoro.CoroInfo):
            print(f"{message.status.value}: {message.info}")
            if message.status is discoro.Status.ComputationClosed:
                return


async def count(computation: discoro.Computation, task_status: trio.TaskStatus[None]) -> None:
    """Count the jobs that are created and those that end, until the computation is closed."""
    created = ended = 0
    async with computation.subscribe() as messages:
        task_status.started()
        async for message in messages:
            created += isinstance(message, discoro.DiscoroStatus) and message.status is discoro.Status.CoroCreated
            ended += isinstance(message, discoro.MonitorException)
    print(f"{created} jobs were created, {ended} have ended.")


async def find(computation: discoro.Computation, jobs: int) -> int:
    """Run the jobs, at most one on a server at a time."""
    found: list[int] = []

    async def work(scheduler: discoro.ProcScheduler, low: int) -> None:
        found.append(await scheduler.execute(count_primes, low, low + 5000))

    async with discoro.ProcScheduler(computation) as scheduler, trio.open_nursery() as nursery:
        for number in range(jobs):
            nursery.start_soon(work, scheduler, 5000 * number)
    return sum(found)


async def main(jobs: int, port: int, cluster: Cluster) -> None:
    """Count the primes below 5,000 × jobs."""
    async with cluster, discoro.open_coro("status") as status, trio.open_nursery() as nursery:
        computation = discoro.Computation([count_primes], status_coro=status)
        await nursery.start(count, computation)
        nursery.start_soon(show, status)
        async with discoro.open_http_server(computation, port=port) as server:
            print(f"Look at {server.url}")
            async with computation.schedule():
                total = await find(computation, jobs)
            await server.shutdown(wait=True)  # whoever looks sees the end
        print(f"There are {total} primes below {5000 * jobs}.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="number of jobs (default: 8)")
    parser.add_argument("--port", type=int, default=8181, help="port of the monitor, 0 for any (default: 8181)")
    options = parser.parse_args()
    run(main, options.jobs, options.port, cluster_of(options))
