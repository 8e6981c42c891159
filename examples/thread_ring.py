"""Pass a token around a ring of 500 coroutines that are spread over all servers.

Each coroutine knows its successor by its handle alone, wherever that is. The one that gets the token with 0 says so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def member(client: discoro.Coro[None], number: int, *, coro: discoro.Coro[None]) -> None:
    """Pass the token on to the successor, one less each time. This runs at a server."""
    successor = await coro.receive()
    async for token in coro:
        if token == 0:
            await client.send((number, coro.location))
        else:
            await successor.send(token - 1)


async def main(size: int, hops: int, cluster: Cluster) -> None:
    """Join the ring and send the token in."""
    async with (
        cluster,
        discoro.Computation([member]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        ring = [await computation.run(member, client, number) for number in range(size)]
        for number, rcoro in enumerate(ring):
            await rcoro.deliver(ring[(number + 1) % size])  # it has it before any token can come
        places = {rcoro.location for rcoro in ring}
        print(f"{size} coroutines at {len(places)} servers")
        started = time.perf_counter()
        await ring[0].send(hops)
        number, location = await client.receive()
        seconds = time.perf_counter() - started
        print(f"after {hops} hops the token is at coroutine {number} of {location}")
        print(f"{seconds / hops * 1e6:.0f} µs a hop")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=500, metavar="N", help="coroutines in the ring (default: 500)")
    parser.add_argument("--hops", type=int, default=5000, metavar="N", help="hops of the token (default: 5000)")
    options = parser.parse_args()
    run(main, options.size, options.hops, cluster_of(options))
