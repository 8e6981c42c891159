"""Run a coroutine at each server as soon as a status message says that the server is there.

Nothing is said of how many servers there are: whatever comes, also later, gets a coroutine and a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def answer(client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    """Say hello to the client and answer what it says. This runs at a server."""
    await client.send((coro, f"hello from {coro.location}"))
    question = await coro.receive()
    await client.send((coro, f"{question} yes"))


async def talk(client: discoro.Coro[None], servers: int) -> None:
    """Talk to the coroutines of so many servers."""
    for _ in range(2 * servers):
        rcoro, text = await client.receive()
        print(text)
        if text.startswith("hello"):
            await rcoro.send(f"is there work for {rcoro.location}?")


async def start_at_each(
    status: discoro.Coro[None], computation: discoro.Computation, client: discoro.Coro[None]
) -> None:
    """Start a coroutine at each server that comes."""
    async for message in status:
        match message:
            case discoro.DiscoroStatus(status=discoro.Status.ServerInitialized, info=discoro.Location() as location):
                await computation.run_at(location, answer, client)


async def main(count: int, cluster: Cluster) -> None:
    """Talk to the first servers that come."""
    async with (
        cluster,
        discoro.open_coro("status") as status,
        discoro.open_coro("client") as client,
        discoro.Computation([answer], status_coro=status).schedule() as computation,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(start_at_each, status, computation, client)
        await talk(client, count)
        nursery.cancel_scope.cancel()
    print(f"{count} servers have answered.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="servers to wait for (default: 1)")
    options = parser.parse_args()
    run(main, options.count, cluster_of(options))
