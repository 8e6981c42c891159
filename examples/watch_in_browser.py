"""Watch jobs in a web browser, and use the same status messages in this program.

The messages about servers and coroutines come to a coroutine of this program. It relays each to the web monitor's
`status_coro`, and then uses it: it counts the jobs that have ended, and starts the next one when one has.

A program that has no use for the messages itself gives the computation to `open_http_server` instead.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def compute(seconds: float, *, coro: discoro.Coro[float]) -> float:
    """Do some work in ten steps, and say how far it is. This runs at a server."""
    for step in range(10):
        coro.report(step, total=10)
        await trio.sleep(seconds / 10)
    return seconds


async def relay_and_use(messages: discoro.Coro[None], monitor: discoro.Coro[None], jobs: trio.Semaphore) -> None:
    """Relay status messages to the monitor, and let another job start for each that has ended."""
    async for message in messages:
        await monitor.send(message)
        if isinstance(message, discoro.MonitorException):
            jobs.release()
        elif isinstance(message, discoro.DiscoroStatus) and message.status is discoro.Status.ServerInitialized:
            print(f"{message.info} takes jobs")


async def run_jobs(computation: discoro.Computation, seconds: list[float], room: trio.Semaphore) -> None:
    """Start a job whenever there is room for one, and print the sum of what they give."""
    started = []
    for each in seconds:
        await room.acquire()
        started.append(await computation.run(compute, each))
    total = sum([await rcoro.result() for rcoro in started])
    print(f"{len(started)} jobs took {total:.1f} s of work.")


async def main(jobs: int, longest: float, port: int, cluster: Cluster) -> None:
    """Run jobs under the eyes of a monitor."""
    seconds = [random.uniform(longest / 4, longest) for _ in range(jobs)]
    room = trio.Semaphore(4)
    async with (
        cluster,
        discoro.open_http_server(port=port) as server,
        discoro.open_coro("status") as messages,
        trio.open_nursery() as nursery,
    ):
        print(f"Look at {server.url}")
        nursery.start_soon(relay_and_use, messages, server.status_coro, room)
        computation = discoro.Computation([compute], status_coro=messages, name="watched jobs")
        async with computation.schedule():
            await run_jobs(computation, seconds, room)
        await server.shutdown(wait=True)  # whoever looks sees the end
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=40, metavar="N", help="number of jobs (default: 40)")
    parser.add_argument("--longest", type=float, default=4.0, metavar="S", help="seconds of the longest (default: 4)")
    parser.add_argument("--port", type=int, default=8181, help="port of the monitor, 0 for any (default: 8181)")
    options = parser.parse_args()
    run(main, options.jobs, options.longest, options.port, cluster_of(options))
