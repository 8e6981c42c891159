"""Run CPU-bound jobs by `ProcScheduler.execute`: wait for a free server, run the job there, get its result.

However many tasks of this program want something at once, no server computes more than one job at a time.
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    Cluster = AbstractAsyncContextManager[discoro.Scheduler]


def estimate_pi(seed: int, points: int) -> float:
    """Throw points at a square and count those in the circle. This runs in a thread of a server."""
    rng = random.Random(seed)
    inside = sum(rng.random() ** 2 + rng.random() ** 2 <= 1 for _ in range(points))
    return 4 * inside / points


async def main(jobs: int, points: int, cluster: Cluster) -> None:
    """Run the jobs and print their mean."""
    estimates: list[float] = []

    async def job(scheduler: discoro.ProcScheduler, seed: int) -> None:
        estimate = await scheduler.execute(estimate_pi, seed, points)
        print(f"job {seed}: {estimate:.3f}")
        estimates.append(estimate)

    async with cluster, discoro.Computation([estimate_pi]).schedule() as computation:
        async with discoro.ProcScheduler(computation) as scheduler, trio.open_nursery() as nursery:
            for seed in range(jobs):
                nursery.start_soon(job, scheduler, seed)
        print(f"The mean of {len(estimates)} jobs is {sum(estimates) / len(estimates):.2f}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="number of jobs (default: 8)")
    parser.add_argument("--points", type=int, default=100_000, metavar="N", help="points of each (default: 100_000)")
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    options = parser.parse_args()
    nodes, servers = options.nodes, options.servers
    cluster = discoro.open_scheduler(nodes=nodes) if nodes else discoro.open_cluster(servers=servers)
    status = 0
    try:
        trio.run(main, options.jobs, options.points, cluster)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
