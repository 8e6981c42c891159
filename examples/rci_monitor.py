"""Offer a function by name, start coroutines of it from elsewhere, and hear how each of them ends.

A coroutine at a server registers the function for as long as it lives; this program finds it by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def divide(dividend: float, divisor: float) -> float:
    """Be the function that is offered."""
    await trio.sleep(0.1)
    return dividend / divisor


async def offer(*, coro: discoro.Coro[None]) -> None:
    """Register the function until told to stop. This runs at a server."""
    async with discoro.RCI(divide, name="division").register():
        await coro.receive()


async def main(cluster: Cluster) -> None:
    """Start coroutines by name and monitor them."""
    async with (
        cluster,
        discoro.Computation([offer, divide]).schedule() as computation,
        discoro.open_coro("observer") as observer,
    ):
        server = await computation.run(offer)
        division = await discoro.locate_rci("division")
        print(f"10 / 4 = {await division.run(10, 4)}")
        for divisor in (1, 2, 0):
            rcoro = await division(1, divisor)
            await rcoro.monitor(observer)
        for _ in range(3):
            ended: discoro.MonitorException = await observer.receive()
            how = f"value {ended.value}" if ended.error is None else f"{type(ended.error).__name__}: {ended.error}"
            print(f"{ended.coro.name} has ended with {how}")
        await server.send("stop")
        await server.result()


if __name__ == "__main__":
    parser = make_parser(__doc__)
    options = parser.parse_args()
    run(main, cluster_of(options))
