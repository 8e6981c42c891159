"""Send a file to a server, let a coroutine there work on it, and get the result back as a file.

Without a file, the program sends its own text, and works in a folder that it removes again.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def count_words(client: discoro.Location, *, coro: discoro.Coro[int]) -> int:
    """Count the words of a file that comes, and send the counts to the client as a file. This runs at a server."""
    source = trio.Path(await coro.receive())
    words = Counter((await source.read_text()).split())
    counts = source.with_suffix(".words")
    await counts.write_text("".join(f"{times} {word}\n" for word, times in words.most_common()))
    await discoro.send_file(client, counts, overwrite=True)
    return len(words)


def show(done: int, total: int) -> None:
    """Print the progress of a transfer."""
    print(f"{done} of {total} bytes are there")


async def main(path: Path, cluster: Cluster) -> None:
    """Send the file, have its words counted, and delete it there."""
    async with (
        cluster,
        discoro.Computation([count_words]).schedule() as computation,
        discoro.open_coro("client") as client,
    ):
        rcoro = await computation.run(count_words, client.location)
        await discoro.send_file(rcoro.location, path, on_progress=show)
        await rcoro.send(path.name)
        print(f"{path.name} has {await rcoro.result()} words; the most frequent are:")
        counts = await trio.Path(path.name).with_suffix(".words").read_text()
        print("".join(counts.splitlines(keepends=True)[:3]), end="")
        await discoro.del_file(rcoro.location, path.name)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="the file (default: the text of this program)")
    options = parser.parse_args()
    if options.file is not None:
        run(main, options.file, cluster_of(options))
    else:
        path = Path(__file__).resolve()
        with tempfile.TemporaryDirectory() as temporary, chdir(temporary):
            run(main, path, cluster_of(options))
