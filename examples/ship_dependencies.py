"""Ship a coroutine with the class and the function that it depends on, and talk to it by messages, both ways.

The texts that are sent are objects of a class of this program. At the servers they are objects of the same class, and
so are the answers that come back.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster

TEXTS = [
    "the quick brown fox jumps over the lazy dog and the dog sleeps on",
    "a rose is a rose is a rose",
    "to be or not to be that is the question",
    "we choose to go to the moon in this decade and do the other things",
    "row row row your boat gently down the stream",
    "the rain in Spain stays mainly in the plain",
]


@dataclass
class Text:
    """What is sent there; it has methods there, too."""

    number: int
    content: str

    def words(self) -> list[str]:
        """Give the words of the text."""
        return self.content.split()


@dataclass
class Answer:
    """What comes back."""

    number: int
    word: str
    times: int
    server: discoro.Location


def most_frequent(words: list[str]) -> tuple[str, int]:
    """Give the word that occurs most often, and how often."""
    return collections.Counter(words).most_common(1)[0]


async def read_texts(client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    """Answer texts until something else comes; the result is their number. This runs at a server."""
    count = 0
    while isinstance(text := await coro.receive(), Text):
        word, times = most_frequent(text.words())
        await client.send(Answer(text.number, word, times, coro.location))
        count += 1
    return count


async def show_answers(client: discoro.Coro[None], count: int) -> None:
    """Receive the answers to all texts, from whichever coroutine."""
    for _ in range(count):
        answer: Answer = await client.receive()
        print(f"{answer.server}: text {answer.number} has {answer.word!r} {answer.times} times")


async def main(cluster: Cluster) -> None:
    """Send the texts to a reader at each server in turn."""
    async with (
        cluster,
        discoro.Computation([read_texts, most_frequent, Text, Answer]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        rcoros = await computation.run_servers(read_texts, client)
        for number, content in enumerate(TEXTS):
            await rcoros[number % len(rcoros)].send(Text(number, content))
        await show_answers(client, len(TEXTS))
        for rcoro in rcoros:
            await rcoro.send(None)
            print(f"{rcoro.location}: {await rcoro.result()} texts were read")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    options = parser.parse_args()
    run(main, cluster_of(options))
