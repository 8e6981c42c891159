"""Search log files on many servers at once; hits stream back as they are found, and the first N end the search.

Files are shipped with the computation, or are at the nodes already (`--there`, a pattern that each node looks up). Each
search sends its hits to this program's mailbox. Whoever finds more than is read here waits: nothing piles up. When
there are enough hits, leaving the nursery cancels the searches, wherever they are.
"""

from __future__ import annotations

import re
import tempfile
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


async def search(client: discoro.Coro[None], pattern: str, *names: str, coro: discoro.Coro[None]) -> int:
    """Send each line that matches to the client, at most as fast as it reads; give the number of lines read."""
    wanted, count = re.compile(pattern), 0
    for name in names:
        # Opened as it is, not in a thread for each line: what is read ahead makes the lines quick to get.
        with Path(name).open(encoding="utf-8", errors="replace") as lines:  # noqa: ASYNC230
            for line in lines:
                count += 1
                if wanted.search(line):
                    await client.send((str(coro.location), Path(name).name, line.rstrip()))
                elif count % 1000 == 0:
                    await trio.lowlevel.checkpoint()  # others of this server have their turn, and it can be cancelled
    return count


async def search_there(client: discoro.Coro[None], pattern: str, names: str, *, coro: discoro.Coro[None]) -> int:
    """Search the files that this node has."""
    return await search(client, pattern, *sorted(glob(names)), coro=coro)  # noqa: PTH207 - from the root, too


async def search_all(
    computation: discoro.Computation, client: discoro.Coro[None], pattern: str, files: list[Path], there: str
) -> None:
    """Search everywhere; say the end to the client."""
    if there:
        for rcoro in await computation.run_nodes(search_there, client, pattern, there):
            await rcoro.wait()
    else:
        async with computation.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(search, client, pattern, file.name)
    await client.send(None)


async def main(pattern: str, most: int, files: list[Path], there: str, cluster: Cluster) -> None:
    """Print the first hits."""
    hits = 0
    components = [search, search_there, *([] if there else files)]
    async with (
        cluster,
        discoro.open_coro("hits", mailbox_size=64) as client,
        discoro.Computation(components).schedule() as computation,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(search_all, computation, client, pattern, files, there)
        async for hit in client:
            if hit is None:
                break
            hits += 1
            print("{}: {}: {}".format(*hit))
            if hits == most:
                break
        nursery.cancel_scope.cancel()
    print(f"{hits} hits{'' if hits < most else ', which is enough'}.")


def write_samples(folder: Path, files: int, lines: int) -> list[Path]:
    """Write log files in which every hundredth line is an error."""
    paths = [folder / f"web{number}.log" for number in range(files)]
    for number, path in enumerate(paths):
        with path.open("w", encoding="utf-8") as file:
            for line in range(lines):
                level = "ERROR" if line % 100 == 0 else "INFO"
                file.write(f"{line:06d} {level} request {line * 7919 % 10007} of web{number}\n")
    return paths


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("pattern", nargs="?", default="ERROR", help="a regular expression (default: ERROR)")
    parser.add_argument("files", nargs="*", type=Path, help="log files to ship (default: some that are made up)")
    parser.add_argument("--there", default="", metavar="GLOB", help="search these files of each node instead")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="hits after which it ends (default: 10)")
    parser.add_argument(
        "--lines", type=int, default=20_000, metavar="N", help="lines of each made up (default: 20,000)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or ([] if options.there else write_samples(Path(folder), 4, options.lines))
        run(main, options.pattern, options.most, files, options.there, cluster_of(options))
