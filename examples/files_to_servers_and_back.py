"""Send input files to the servers, process each there, and get the output files back.

For each inputX.dat of a folder there is an outputX.dat in the end. Without a folder, the program makes one with some
input files, and removes it again.
"""

from __future__ import annotations

import random
import statistics
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from _command_line import Cluster


def process(name: str) -> Path:
    """Write the output file for an input file, both in the server's working folder."""
    numbers = [float(line) for line in Path(name).read_text().splitlines()]
    output = Path(name.replace("input", "output"))
    output.write_text(f"{len(numbers)} numbers, mean {statistics.fmean(numbers):.3f}, largest {max(numbers):.3f}\n")
    return output


async def process_and_send(client: discoro.Location, *, coro: discoro.Coro[str]) -> str:
    """Wait for the name of a file that has come, process it, and send the output. This runs at a server."""
    name = await coro.receive()
    output = await trio.to_thread.run_sync(process, name)
    await discoro.send_file(client, output, overwrite=True)
    return output.name


async def round_trip(computation: discoro.Computation, client: discoro.Location, path: Path) -> None:
    """Send one input file and show what comes back; it comes into the current folder."""
    rcoro = await computation.run(process_and_send, client)
    await discoro.send_file(rcoro.location, path)
    await rcoro.send(path.name)
    name = await rcoro.result()
    print(f"{name}: {await trio.Path(name).read_text()}", end="")


async def main(inputs: list[Path], cluster: Cluster) -> None:
    """Process all input files at once."""
    async with (
        cluster,
        discoro.Computation([process_and_send, process]).schedule() as computation,
        discoro.open_coro("client") as client,
        trio.open_nursery() as nursery,
    ):
        for path in inputs:
            nursery.start_soon(round_trip, computation, client.location, path)


def make_inputs(count: int) -> None:
    """Write some input files into the current folder."""
    generator = random.Random(1)
    for number in range(count):
        lines = [f"{generator.gauss(number, 1)}\n" for _ in range(1000)]
        Path(f"input{number}.dat").write_text("".join(lines))


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder of the files (default: one that is made)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, chdir(options.folder or temporary):
        if options.folder is None:
            make_inputs(5)
        run(main, sorted(Path().glob("input*.dat")), cluster_of(options))
