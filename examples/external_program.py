"""Ship an external program to the servers, start it there, and talk to it by messages.

The program, external_program_child.py, reads standard input and writes standard output. A coroutine at each server
bridges the two to messages: each message of this client becomes a line of the
program's input, and each line of its output becomes a message.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster

PROGRAM = Path(__file__).with_name("external_program_child.py")


async def feed(coro: discoro.Coro[int], stdin: trio.abc.SendStream) -> None:
    """Write each message to the program's standard input; None ends it."""
    async with stdin:
        while (line := await coro.receive()) is not None:
            await stdin.send_all(f"{line}\n".encode())


async def bridge(client: discoro.Coro[None], program: str, *, coro: discoro.Coro[int]) -> int:
    """Run the program between two streams of messages; the result is its exit status. This runs at a server."""
    # The program is a component, so it lies in the server's working folder.
    start = partial(trio.run_process, [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        assert process.stdin is not None  # noqa: S101 - it is a pipe, as asked for
        assert process.stdout is not None  # noqa: S101
        nursery.start_soon(feed, coro, process.stdin)
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                await client.send((coro.location, line.decode()))
        return await process.wait()


async def main(count: int, cluster: Cluster) -> None:
    """Deal the numbers out to the programs, and show what they answer."""
    async with (
        cluster,
        discoro.Computation([bridge, feed, PROGRAM]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        rcoros = await computation.run_servers(bridge, client, PROGRAM.name)
        for number in range(count):
            await rcoros[number % len(rcoros)].send(number)
        for _ in range(count):
            location, line = await client.receive()
            print(f"{location} answers {line}")
        for rcoro in rcoros:
            await rcoro.send(None)
            print(f"{rcoro.location} the program ended with status {await rcoro.result()}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--count", type=int, default=10, metavar="N", help="numbers to send (default: 10)")
    options = parser.parse_args()
    run(main, options.count, cluster_of(options))
