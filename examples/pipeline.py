"""Send a stream through three stages on the servers; a slow stage slows the ones before it down.

Each stage is a coroutine with a mailbox, which sends what it makes to the next one. A mailbox holds so many messages
of each sender and then lets it wait, so no stage runs ahead without bound, and nothing is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def make(count: int, target: discoro.Coro[None], client: discoro.Coro[None]) -> None:
    """Send numbers, and tell the client now and then how many were sent. This runs at a server."""
    for number in range(count):
        await target.send(number)
        if number % 500 == 0:
            await client.send(("made", number))
    await target.send(None)


async def square(target: discoro.Coro[int], *, coro: discoro.Coro[None]) -> None:
    """Square numbers until None comes, and pass them on."""
    while (number := await coro.receive()) is not None:
        await target.send(number * number)
    await target.send(None)


async def add(client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    """Add up squares, slowly, until None comes."""
    total = count = 0
    while (number := await coro.receive()) is not None:
        total, count = total + number, count + 1
        if count % 500 == 0:
            await trio.sleep(0.02)  # as if it wrote to a disk
            await client.send(("added", count))
    return total


async def furthest_ahead(client: discoro.Coro[None]) -> int:
    """Watch the first and the last stage until cancelled; print how far the first one was ahead at most."""
    at = {"made": 0, "added": 0}
    most = 0
    async for stage, count in client:
        at[stage] = count
        most = max(most, at["made"] - at["added"])
        if stage == "end":
            break
    return most


async def main(count: int, cluster: Cluster) -> None:
    """Run the stages, wherever there is room, and print the sum."""
    async with (
        cluster,
        discoro.Computation([make, square, add]).schedule() as computation,
        discoro.open_coro("client") as client,
        computation.open_nursery() as nursery,
    ):
        last = await nursery.run(add, client)
        middle = await nursery.run(square, last)
        await nursery.run(make, count, middle, client)

        async def end() -> None:
            await last.wait()
            await client.send(("end", 0))

        async with trio.open_nursery() as watchers:
            watchers.start_soon(end)
            most = await furthest_ahead(client)
        print(f"The sum of {count} squares is {await last.result()}.")
        print(f"The first stage was at most {most} numbers ahead of the last one.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=20_000, metavar="N", help="numbers (default: 20,000)")
    options = parser.parse_args()
    run(main, options.count, cluster_of(options))
