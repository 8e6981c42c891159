"""Stream numbers to two remote coroutines: one keeps statistics of a moving window, the other saves them to a file.

All numbers go over one connection to each server that stays open. Sending waits when a coroutine has fallen behind by
more than its mailbox holds, so neither of the two is ever flooded.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


ALARM = 0.1
"""What the mean of a window may be."""


async def watch(client: discoro.Coro[None], window: int, alarm: float, *, coro: discoro.Coro[int]) -> int:
    """Tell the client of windows whose mean is far from zero; give the number of numbers. This runs at a server."""
    latest: deque[float] = deque(maxlen=window)
    total, count = 0.0, 0
    while (number := await coro.receive()) is not None:
        total += number - (latest[0] if len(latest) == window else 0.0)
        latest.append(number)
        count += 1
        if count % window == 0 and abs(total / window) > alarm:
            await client.send((count, total / window))
    return count


async def save(name: str, *, coro: discoro.Coro[int]) -> int:
    """Save numbers to a file in the working folder; give its size in bytes. This runs at a server."""
    lines: list[str] = []
    count = 0
    async with await trio.open_file(name, "w") as file:
        while (number := await coro.receive()) is not None:
            lines.append(f"{number}\n")
            count += 1
            if count % 1000 == 0:
                await file.writelines(lines)
                lines.clear()
        await file.writelines(lines)
    return (await trio.Path(name).stat()).st_size


async def stream(count: int, rcoros: list[discoro.Coro[int]]) -> None:
    """Send numbers to all coroutines, and then None, which ends them."""
    generator = random.Random(1)
    for number in range(count):
        drift = 1.0 if number > count // 2 else 0.0
        item = generator.gauss(drift * number / count, 1)
        for rcoro in rcoros:
            await rcoro.send(item)
    for rcoro in rcoros:
        await rcoro.send(None)


async def main(count: int, window: int, cluster: Cluster) -> None:
    """Start both coroutines and feed them."""
    async with (
        cluster,
        discoro.Computation([watch, save]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        watcher = await computation.run(watch, client, window, ALARM)
        saver = await computation.run(save, "numbers.txt")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_alarms, client)
            await stream(count, [watcher, saver])
            print(f"{watcher.location}: {await watcher.result()} numbers watched")
            print(f"{saver.location}: {await saver.result()} bytes saved")
            nursery.cancel_scope.cancel()


async def show_alarms(client: discoro.Coro[None]) -> None:
    """Print what the watcher tells."""
    async for count, mean in client:
        print(f"after {count} numbers: the mean of the window is {mean:.3f}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=100_000, metavar="N", help="numbers to send (default: 100000)")
    parser.add_argument(
        "--window", type=int, default=10_000, metavar="N", help="numbers in the window (default: 10000)"
    )
    options = parser.parse_args()
    run(main, options.count, options.window, cluster_of(options))
