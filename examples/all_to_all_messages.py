"""Let every coroutine send messages to every other one, all at the same time.

Each receives while it sends. If all sent first and received afterwards, full mailboxes would make them wait for each
other for ever, once there are more messages than the mailboxes hold.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


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
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=int, default=20, metavar="N", help="coroutines (default: 20)")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="messages to each other (default: 100)")
    options = parser.parse_args()
    run(main, options.size, options.count, cluster_of(options))
