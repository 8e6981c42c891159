"""Let two coroutines at two servers send a ball to and fro, and tell how long one round trip takes.

The two talk directly: their servers open a connection of their own for the first ball.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def hit_back(*, coro: discoro.Coro[int]) -> int:
    """Send every ball back to where it came from, up to None; give their number. This runs at a server."""
    hits = 0
    while (ball := await coro.receive()) is not None:
        sender, number = ball
        await sender.send(number)
        hits += 1
    return hits


async def play(partner: discoro.Coro[int], count: int, *, coro: discoro.Coro[float]) -> float:
    """Send balls to the partner, one at a time; give the seconds of a round trip. This runs at a server."""
    started = time.perf_counter()
    for number in range(count):
        await partner.send((coro, number))
        back = await coro.receive()
        if back != number:
            message = f"ball {back} came back for ball {number}"
            raise ValueError(message)
    await partner.send(None)
    return (time.perf_counter() - started) / count


async def main(count: int, cluster: Cluster) -> None:
    """Start a partner at every server, and a player at the first one; the last one's partner is played with."""
    async with cluster, discoro.Computation([hit_back, play]).schedule() as computation:
        partners = await computation.run_servers(hit_back)
        player = await computation.run_at(partners[0].location, play, partners[-1], count)
        seconds = await player.result()
        for partner in partners[:-1]:
            await partner.send(None)
        print(f"{player.location} and {partners[-1].location}: {await partners[-1].result()} round trips")
        print(f"{seconds * 1e6:.0f} µs each")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="round trips (default: 2000)")
    options = parser.parse_args()
    run(main, options.count, cluster_of(options))
