"""Run CPU-bound jobs by `ProcScheduler.execute`: wait for a free server, run the job there, get its result.

However many tasks of this program want something at once, no server computes more than one job at a time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


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
    parser = make_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=8, metavar="N", help="number of jobs (default: 8)")
    parser.add_argument("--points", type=int, default=100_000, metavar="N", help="points of each (default: 100_000)")
    options = parser.parse_args()
    run(main, options.jobs, options.points, cluster_of(options))
