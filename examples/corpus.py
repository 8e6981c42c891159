"""Parse every file of Python's standard library on all processors, and compare with one process.

Each file is a job on some server. What it counted comes back twice: as a message that the job sends to a collecting
coroutine of this program, and as the job's result. In the end a plain loop in this process counts the same files, for
the time that it takes and to see that the totals are equal.
"""

from __future__ import annotations

import ast
import functools
import sysconfig
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import rich.box
import rich.console
import rich.progress
import rich.table
import trio

import discoro_trio as discoro
from _command_line import cluster_of, make_parser, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _command_line import Cluster

# --- what runs at the servers


@dataclass(frozen=True)
class Counts:
    """What there is in one file."""

    file: str
    definitions: int = 0
    imports: int = 0
    longest: int = 0
    """Lines of the longest function."""
    longest_name: str = ""
    error: str = ""
    """Why the file could not be parsed, if so."""


def count(file: str, source: bytes) -> Counts:
    """Parse a file and count."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Counts(file, error=f"{type(error).__name__}: {error}")
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    imports = sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)
    lengths = [((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in functions]
    longest, name = max(lengths, default=(0, ""))
    return Counts(file, len(functions) + classes, imports, longest, name)


async def count_and_send(collector: discoro.Coro[Totals], file: str, source: bytes) -> Counts:
    """Be one job: count, and say so both ways."""
    counts = count(file, source)
    await collector.send(counts)
    return counts


# --- what runs here


@dataclass
class Totals:
    """What there is in all files."""

    files: int = 0
    definitions: int = 0
    imports: int = 0
    longest: tuple[int, str, str] = (0, "", "")
    """Lines, file and name of the longest function."""
    unparsed: dict[str, str] = field(default_factory=dict)
    """Why files could not be parsed, by name."""

    def add(self, counts: Counts) -> None:
        """Add the counts of one file; in which order does not matter."""
        self.files += 1
        self.definitions += counts.definitions
        self.imports += counts.imports
        self.longest = max(self.longest, (counts.longest, counts.file, counts.longest_name))
        if counts.error:
            self.unparsed[counts.file] = counts.error


LIBRARY = Path(sysconfig.get_path("stdlib"))


def library_files() -> list[Path]:
    """Find the files of the standard library, the largest first: so no server is left with a large one at the end."""
    files = [path for path in LIBRARY.rglob("*.py") if not {"site-packages", "dist-packages"} & set(path.parts)]
    return sorted(files, key=lambda path: path.stat().st_size, reverse=True)


def sources(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Read the files one by one: a server on another machine need not have the same library."""
    for path in files:
        yield str(path.relative_to(LIBRARY)), path.read_bytes()


async def collect(collector: discoro.Coro[Totals], files: int, totals: Totals) -> None:
    """Take the messages of all jobs."""
    for _ in range(files):
        totals.add(await collector.receive())


async def count_on_servers(
    computation: discoro.Computation, files: list[Path], progress: Progress
) -> tuple[Totals, Totals]:
    """Count at the servers; give the totals by messages and those by results."""
    by_messages, by_results = Totals(), Totals()
    async with discoro.open_coro("collector") as collector, trio.open_nursery() as nursery:
        nursery.start_soon(collect, collector, len(files), by_messages)
        job = functools.partial(count_and_send, collector)
        async with computation.starmap(job, sources(files), ordered=False) as results:
            async for counts in results:
                by_results.add(counts)
                progress.advance()
    return by_messages, by_results


async def count_here(files: list[Path], progress: Progress) -> Totals:
    """Count in a plain loop."""
    totals = Totals()
    for file, source in sources(files):
        totals.add(count(file, source))
        progress.advance()
        await trio.lowlevel.checkpoint()  # here Ctrl-C can end it
    return totals


class Progress:
    """A bar on a terminal, and a line for each quarter elsewhere."""

    def __init__(self, console: rich.console.Console, text: str, total: int) -> None:
        self._console = console
        self._text = text
        self._total = total
        self._done = 0
        columns = ("{task.description}", rich.progress.BarColumn(), rich.progress.MofNCompleteColumn())
        self._bar = rich.progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(text, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self) -> None:
        """Note that one more file is done."""
        before = 4 * self._done // self._total
        self._done += 1
        self._bar.advance(self._task)
        if not self._console.is_terminal and 4 * self._done // self._total > before:
            self._console.print(f"{self._text}: {self._done} of {self._total}", highlight=False)


@dataclass
class Run:
    """One way of counting."""

    name: str
    seconds: float
    totals: Totals


async def main(cluster: Cluster, most_files: int | None) -> bool:
    """Count both ways, print the comparison, and tell whether the totals are equal."""
    console = rich.console.Console(highlight=False)
    files = library_files()[:most_files]
    console.print(f"{len(files)} files in {LIBRARY}")
    async with (
        cluster,
        discoro.Computation([count_and_send, count, Counts], name="corpus").schedule() as computation,
    ):
        begin = time.perf_counter()
        with Progress(console, "servers", len(files)) as progress:
            by_messages, by_results = await count_on_servers(computation, files, progress)
        seconds = time.perf_counter() - begin
        here = f"{len(await computation.servers())} servers"
    begin = time.perf_counter()
    with Progress(console, "one process", len(files)) as progress:
        by_loop = await count_here(files, progress)
    runs = [
        Run("one process", time.perf_counter() - begin, by_loop),
        Run(f"{here}, messages", seconds, by_messages),
        Run(f"{here}, results", seconds, by_results),
    ]
    print_runs(console, runs)
    return by_messages == by_results == by_loop


def print_runs(console: rich.console.Console, runs: list[Run]) -> None:
    """Print the table, the files that could not be parsed, and whether all agree."""
    plain = runs[0]
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("counted by", no_wrap=True)
    for heading in ("time", "speed-up", "files", "definitions", "imports", "longest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in runs:
        totals = one.totals
        counted = (totals.files, totals.definitions, totals.imports, totals.longest[0])
        speed_up = plain.seconds / one.seconds
        table.add_row(one.name, f"{one.seconds:.2f} s", f"{speed_up:.2f} ×", *(f"{number:,}" for number in counted))
    console.print(table)
    lines, file, name = plain.totals.longest
    console.print(f"The longest function is {name} in {file}, with {lines:,} lines.")
    if plain.totals.unparsed:
        console.print(f"{len(plain.totals.unparsed)} files could not be parsed:")
        for file, error in sorted(plain.totals.unparsed.items()):
            console.print(f"  {file}: {error}", markup=False, soft_wrap=True)
    equal = all(run.totals == plain.totals for run in runs)
    console.print("The totals are equal." if equal else "The totals are NOT equal.", style="green" if equal else "red")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--files", type=int, metavar="N", help="only the N largest files (default: all)")
    options = parser.parse_args()
    run(main, cluster_of(options), options.files)
