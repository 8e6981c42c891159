"""Set each server up when a status message says that it is there: it reads a file into its memory, once.

The file is shipped with the computation. Jobs search it in the memory of their server, and never read it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


class Memory:
    """What a server keeps from one job to the next."""

    lines: tuple[str, ...] = ()


def read_file(name: str) -> int:
    """Read the file, which is in the server's working folder, into memory; give the number of lines."""
    Memory.lines = tuple(Path(name).read_text(encoding="utf-8").splitlines())
    return len(Memory.lines)


def search(word: str) -> int:
    """Count the lines with a word, in the memory of the server where this runs."""
    return sum(word in line for line in Memory.lines)


async def set_up(
    status: discoro.Coro[None],
    computation: discoro.Computation,
    name: str,
    ready: trio.MemorySendChannel[discoro.Location],
) -> None:
    """Have each server that comes read the file, and say that it is ready."""
    async for message in status:
        match message:
            case discoro.DiscoroStatus(status=discoro.Status.ServerInitialized, info=discoro.Location() as location):
                rcoro = await computation.run_at(location, read_file, name)
                print(f"{location} has read {await rcoro.result()} lines")
                await ready.send(location)


async def main(words: list[str], file: Path, cluster: Cluster) -> None:
    """Search the words, at whichever server is ready."""
    send, receive = trio.open_memory_channel[discoro.Location](0)
    async with cluster, discoro.open_coro("status") as status:
        computation = discoro.Computation([Memory, read_file, search, file], status_coro=status)
        async with computation.schedule(), trio.open_nursery() as nursery:
            nursery.start_soon(set_up, status, computation, file.name, send)
            location = await receive.receive()
            for word in words:
                rcoro = await computation.run_at(location, search, word)
                print(f"{await rcoro.result()} lines of {file.name} have {word!r}")
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("words", nargs="*", default=["the", "def", "Trio"], help="words to search (default: some)")
    parser.add_argument("--file", type=Path, default=Path(__file__), help="the file (default: this program)")
    options = parser.parse_args()
    run(main, options.words, options.file, cluster_of(options))
