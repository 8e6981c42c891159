"""Let two coroutines at two servers send a ball to and fro, and tell how long one round trip takes.

The two talk directly: their servers open a connection of their own for the first ball.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    Cluster = AbstractAsyncContextManager[discoro.Scheduler]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="round trips (default: 2000)")
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    options = parser.parse_args()
    nodes, servers = options.nodes, options.servers
    cluster = discoro.open_scheduler(nodes=nodes) if nodes else discoro.open_cluster(servers=servers)
    status = 0
    try:
        trio.run(main, options.count, cluster)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
