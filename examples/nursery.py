"""Search in parallel, and cancel all other searches as soon as one has found something.

The searches are tasks of one nursery, on all servers. When the block is left, whoever found it and wherever the others
ran, none of them runs any more: the nursery has waited for their clean-up.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def search(zeros: int, first: int, step: int, client: discoro.Coro[None]) -> None:
    """Try every so many numbers, until one has a digest that begins with enough zeros. This runs at a server."""
    number, wanted, tried = first, "0" * zeros, 0
    try:
        while not hashlib.sha256(str(number).encode()).hexdigest().startswith(wanted):
            number, tried = number + step, tried + 1
            if tried % 1000 == 0:
                await trio.lowlevel.checkpoint()  # where it can be cancelled, and lets others run
        await client.send(number)
    finally:
        with trio.CancelScope(shield=True):
            await client.deliver(f"search {first} ends after {tried} numbers")


async def main(zeros: int, searches: int, cluster: Cluster) -> None:
    """Search, and print what was found and that all searches have ended."""
    async with (
        cluster,
        discoro.Computation([search, hashlib]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        async with computation.open_nursery() as nursery:
            for first in range(searches):
                nursery.start_soon(search, zeros, first, searches, client)
            found = await client.receive()
            nursery.cancel_scope.cancel()
        digest = hashlib.sha256(str(found).encode()).hexdigest()
        print(f"The digest of {found} is {digest[:16]}…")
        print(f"Searches that still run: {computation.statistics().running}")
        # What they said when they ended is here: each of them delivered it. A search that was cancelled before it began
        # says nothing, and another one may have found something, too.
        ends: list[object] = []
        with suppress(trio.WouldBlock):
            while True:
                ends.append(client.receive_nowait())
        print(*sorted(end for end in ends if isinstance(end, str)), sep="\n")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--zeros", type=int, default=4, metavar="N", help="zeros to look for (default: 4)")
    parser.add_argument("--searches", type=int, default=6, metavar="N", help="searches at once (default: 6)")
    options = parser.parse_args()
    run(main, options.zeros, options.searches, cluster_of(options))
