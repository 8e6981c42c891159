"""Ship input files to the servers, process each there, and bring the output files back.

For each inputX.dat of a folder there is an outputX.dat in the end. Without a folder, the program makes one with some
input files, and removes it again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    Cluster = AbstractAsyncContextManager[discoro.Scheduler]


def process(name: str) -> tuple[str, bytes]:
    """Write the output file for an input file, both in the server's working folder; give its name and content."""
    numbers = [float(line) for line in Path(name).read_text().splitlines()]
    output = Path(name.replace("input", "output"))
    output.write_text(f"{len(numbers)} numbers, mean {statistics.fmean(numbers):.3f}, largest {max(numbers):.3f}\n")
    return output.name, output.read_bytes()


def make_inputs(folder: Path, count: int) -> None:
    """Write some input files."""
    generator = random.Random(1)
    for number in range(count):
        lines = [f"{generator.gauss(number, 1)}\n" for _ in range(1000)]
        (folder / f"input{number}.dat").write_text("".join(lines))


async def main(folder: Path, cluster: Cluster) -> None:
    """Process all input files of the folder."""
    inputs = sorted(await trio.to_thread.run_sync(lambda: list(folder.glob("input*.dat"))))
    async with (
        cluster,
        # Files that are components are in the working folders of all servers before anything runs there.
        discoro.Computation([process, *inputs]).schedule() as computation,
        computation.map(process, [path.name for path in inputs], ordered=False) as results,
    ):
        async for name, content in results:
            await trio.Path(folder / name).write_bytes(content)
            print(f"{name}: {content.decode()}", end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder of the files (default: one that is made)")
    parser.add_argument("--servers", type=int, metavar="N", help="server processes (default: one a processor)")
    parser.add_argument("--nodes", nargs="+", metavar="HOST", help="use these nodes, which run discoronode, instead")
    options = parser.parse_args()
    nodes, servers = options.nodes, options.servers
    cluster = discoro.open_scheduler(nodes=nodes) if nodes else discoro.open_cluster(servers=servers)
    status = 0
    try:
        if options.folder is not None:
            trio.run(main, options.folder, cluster)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                make_inputs(Path(temporary), count=5)
                trio.run(main, Path(temporary), cluster)
    except* KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        status = 130
    sys.exit(status)
