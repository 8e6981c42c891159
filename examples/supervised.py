"""Keep a service running though its server is killed while it serves.

A supervisor starts the service again, on another server or on the one that replaces it. Who uses the service finds the
new one by the name that it registers, as it found the first one.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    Cluster = AbstractAsyncContextManager[discoro.Scheduler]


NAME = "squares"


async def serve_squares(name: str, *, coro: discoro.Coro[None]) -> None:
    """Answer numbers with their squares. This runs at a server."""
    await coro.register(name)
    async for customer, number in coro:
        if number is None:
            os.kill(os.getpid(), signal.SIGKILL)  # what a fault of a library or the kernel's memory watch would do
        await customer.send(number * number)


async def ask(client: discoro.Coro[None], number: int) -> int:
    """Ask the service, again if it was lost before it answered."""
    while True:
        service = await discoro.locate(NAME)
        try:
            await service.deliver((client, number))
            with trio.fail_after(1):
                square: int = await client.receive()
        except (discoro.PeerDisconnected, discoro.MailboxClosed, discoro.ServerLost, trio.TooSlowError):
            continue
        return square


async def main(kills: int, cluster: Cluster) -> None:
    """Use the service, and kill its server now and then."""
    async with (
        cluster,
        discoro.Computation([serve_squares]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        with trio.CancelScope() as scope:
            async with discoro.open_supervisor(computation, max_restarts=kills) as supervisor:
                supervisor.start_soon(serve_squares, NAME)
                for number in range(kills + 1):
                    print(f"{number} squared is {await ask(client, number)}")
                    if number < kills:
                        service = await discoro.locate(NAME)
                        await service.send((client, None))
                        print(f"The server of {service.location} is killed.")
                scope.cancel()
        print("The service was there for every question.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="times that its server dies (default: 3)")
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    options = parser.parse_args()
    nodes, servers = options.nodes, options.servers
    cluster = discoro.open_scheduler(nodes=nodes) if nodes else discoro.open_cluster(servers=servers)
    status = 0
    try:
        trio.run(main, options.kills, cluster)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
