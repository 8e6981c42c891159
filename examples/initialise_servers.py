"""Put data into the memory of every server, by `ProcScheduler.execute_at`; jobs then work on it there.

The words are sent once to each server, which keeps them in a class that all its jobs share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


class Memory:
    """What a server keeps from one job to the next."""

    words: tuple[str, ...] = ()


async def is_ready() -> None:
    """Do nothing, at every server: that it has been started says enough."""


def keep(words: tuple[str, ...]) -> int:
    """Keep the words in the memory of the server where this runs."""
    Memory.words = words
    return len(words)


def count_with(letter: str) -> int:
    """Count the words with a letter, in the memory of the server where this runs."""
    return sum(letter in word for word in Memory.words)


async def count_letters(computation: discoro.Computation, words: tuple[str, ...], letters: str) -> dict[str, int]:
    """Put the words into the memory of all servers; then count the letters there, one job a letter."""
    found: dict[str, int] = {}

    async def job(scheduler: discoro.ProcScheduler, letter: str) -> None:
        found[letter] = await scheduler.execute(count_with, letter)

    async with discoro.ProcScheduler(computation) as scheduler:
        for rcoro in await computation.run_servers(is_ready):
            kept = await scheduler.execute_at(rcoro.location, keep, words)
            print(f"{rcoro.location} keeps {kept} words")
        async with trio.open_nursery() as nursery:
            for letter in letters:
                nursery.start_soon(job, scheduler, letter)
    return found


async def main(count: int, letters: str, cluster: Cluster) -> None:
    """Send words to all servers, then count letters."""
    words = tuple(f"{number:x}" for number in range(count))
    async with cluster, discoro.Computation([Memory, is_ready, keep, count_with]).schedule() as computation:
        found = await count_letters(computation, words, letters)
    for letter in letters:
        print(f"{found[letter]} words have the letter {letter}")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--words", type=int, default=50_000, metavar="N", help="number of words (default: 50_000)")
    parser.add_argument("--letters", default="0afx", help="the letters to count (default: 0afx)")
    options = parser.parse_args()
    run(main, options.words, options.letters, cluster_of(options))
