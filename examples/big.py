"""Let every coroutine send messages to every other one, all at the same time.

Each receives while it sends. If all sent first and received afterwards, full mailboxes would make them wait for each
other for ever, once there are more messages than the mailboxes hold.
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


async def talk(count: int, *, coro: discoro.Coro[int]) -> int:
    """Send to all others while receiving from them; give the sum of what came. This runs at a server."""
    early: list[int] = []
    while isinstance(others := await coro.receive(), int):
        early.append(others)  # from one who was introduced before this one was
    total = sum(early)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, others, count)
        for _ in range(count * len(others) - len(early)):
            total += await coro.receive()
    return total


async def send_all(others: list[discoro.Coro[int]], count: int) -> None:
    """Send numbers to each, in turn."""
    for number in range(count):
        for other in others:
            await other.send(number)


async def main(size: int, count: int, cluster: Cluster) -> None:
    """Start the coroutines, introduce them to each other, and check what each got."""
    async with cluster, discoro.Computation([talk, send_all]).schedule() as computation:
        rcoros = [await computation.run(talk, count) for _ in range(size)]
        started = time.perf_counter()
        for rcoro in rcoros:
            await rcoro.send([other for other in rcoros if other != rcoro])
        totals = [await rcoro.result() for rcoro in rcoros]
        seconds = time.perf_counter() - started
        messages = size * (size - 1) * count
        print(f"{messages} messages between {size} coroutines in {seconds:.1f} s")
        print("all arrived" if totals == [sum(range(count)) * (size - 1)] * size else f"some are missing: {totals}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20, metavar="N", help="coroutines (default: 20)")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="messages to each other (default: 100)")
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    options = parser.parse_args()
    nodes, servers = options.nodes, options.servers
    cluster = discoro.open_scheduler(nodes=nodes) if nodes else discoro.open_cluster(servers=servers)
    status = 0
    try:
        trio.run(main, options.size, options.count, cluster)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
