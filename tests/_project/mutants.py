"""Makes small random changes to the code, and lists those that no quick test of its folder notices.

cosmic-ray finds the places and makes the changes; one more kind is added here, a call that is left out. Each change is
tried in a copy of the project, so that servers and forked programs import the changed code too. Annotations, names of
types and log lines are not changed: they have no effect that a test should see.

Run as `python -m tests._project.mutants [PATH…] [--minutes N] [--since REVISION]`.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator

from .patch_runs import ROOT, Copy, Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PACKAGE = "discoro_trio"
QUICK = "not (fuzz or browser or example or fault or network or program or soak or slow)"
SECONDS = 120.0
"""After which the tests of one change are ended; that counts as noticed."""
SKIPPED = frozenset({"core/NumberReplacer", "core/RemoveDecorator", "core/ExceptionReplacer"})
"""Kinds that mostly make changes which no document promises to hold: limits by one, caches, other exceptions."""
LOGGED = re.compile(r"^\s*(await )?(logger|audit)\.")
HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


class LeaveCallOut(Operator):  # type: ignore[misc] # cosmic-ray has no types
    """Replaces a statement that only calls something by one that does nothing."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield the place of the statement."""
        if node.type == "simple_stmt" and node.children[0].type in {"atom_expr", "power"}:
            inner = node.children[0]
            if inner.get_code().rstrip().endswith(")"):
                yield inner.start_pos, inner.end_pos

    def mutate(self, node: Any, _index: int) -> Any:
        """Replace it."""
        node.children[0] = get_ast(f"{node.children[0].get_first_leaf().prefix}pass").children[0]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        """Give none: cosmic-ray's own tests use them."""
        return ()


class Change(NamedTuple):
    """One change of one file."""

    file: str
    line: int
    kind: str
    operator: Any
    occurrence: int

    def __str__(self) -> str:
        """Name its place and kind."""
        return f"{self.file}:{self.line}: {self.kind}"


def operators() -> Iterator[tuple[str, Any]]:
    """Yield the kinds of change."""
    yield "call left out", LeaveCallOut()
    for name in cosmic_ray.plugins.operator_names():
        kind = cosmic_ray.plugins.get_operator(name)
        if name not in SKIPPED and not kind.arguments():
            yield name.removeprefix("core/"), kind()


def without_effect(source: str) -> set[int]:
    """Return the lines that only type checkers or people read."""
    lines: set[int] = set()

    def add(node: ast.AST | None) -> None:
        if node is not None and hasattr(node, "lineno"):
            lines.update(range(node.lineno, node.end_lineno + 1))  # type: ignore[attr-defined]

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AnnAssign():
                add(node.annotation)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                add(node.returns)
                for argument in (*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs):
                    add(argument.annotation)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Expr(value=ast.Constant() | ast.JoinedStr()):
                add(node)
    lines.update(number for number, line in enumerate(source.splitlines(), 1) if LOGGED.match(line))
    return lines


def changes_of(file: str, lines: set[int] | None, chooser: random.Random) -> list[Change]:
    """Return one change for each place of a file, or of some lines of it."""
    source = (ROOT / file).read_text(encoding="utf-8")
    tree, idle = get_ast(source), without_effect(source)
    by_place: dict[object, list[Change]] = {}
    for kind, operator in operators():
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for occurrence, place in enumerate(places):
            line = place[0][0]
            if line not in idle and (lines is None or line in lines):
                by_place.setdefault(place, []).append(Change(file, line, kind, operator, occurrence))
    return [chooser.choice(found) for found in by_place.values()]


def tests_of(file: str) -> list[tuple[str, ...]]:
    """Return the tests that should notice a change of a file: first those of its own name, then those of its folder."""
    path = Path(file)
    folder = Path("tests", *(part.removeprefix("_") for part in path.parts[1:-1]))
    while not (ROOT / folder).is_dir():
        folder = folder.parent
    own = sorted(
        str(found.relative_to(ROOT / "tests")) for found in (ROOT / "tests").rglob(f"test_{path.stem.strip('_')}.py")
    )
    whole = str(folder.relative_to("tests"))
    return [tuple(own), (whole,)] if own and whole != "." else [tuple(own)] if own else [(whole,)]


def changed_lines(since: str) -> dict[str, set[int] | None]:
    """Return the lines of the package that differ from a revision."""
    found: dict[str, set[int] | None] = {}
    command = ["git", "diff", "--unified=0", since, "--", f"{PACKAGE}/*.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    for part in done.stdout.split("\ndiff --git ")[0:] if done.returncode == 0 else []:
        name = re.search(r"^\+\+\+ b/(.+)$", part, re.MULTILINE)
        lines = {
            number for first, count in HUNK.findall(part) for number in range(int(first), int(first) + int(count or 1))
        }
        if name and lines and (ROOT / name[1]).exists():
            found[name[1]] = lines
    return found


def files_of(paths: Iterable[str]) -> dict[str, set[int] | None]:
    """Return the modules below some paths."""
    found: dict[str, set[int] | None] = {}
    for path in paths:
        place = ROOT / path
        for module in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            found[module.relative_to(ROOT).as_posix()] = None
    return found


def try_all(changes: Sequence[Change], minutes: float) -> int:
    """Try changes until the time is over; print each survivor with its line, and the figures."""
    began, noticed, survivors = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Copy(Path(folder), seconds=SECONDS)
        for change in changes:
            if time.monotonic() - began > 60 * minutes:
                break
            source = (ROOT / change.file).read_text(encoding="utf-8")
            changed = mutate_code(source, change.operator, change.occurrence)
            if changed is None or changed == source:
                continue
            results = (
                copy.attempt(Patch(str(change), "", change.file, source, changed, tests), "-m", QUICK)
                for tests in tests_of(change.file)
            )
            if any(result.noticed for result in results):
                noticed += 1
                continue
            survivors += 1
            print(f"{change}\n    {source.splitlines()[change.line - 1].strip()}", flush=True)
    tried = noticed + survivors
    share = f", {100 * noticed / tried:.0f} %" if tried else ""
    print(f"{tried} of {len(changes)} changes tried, {noticed} noticed{share}, in {time.monotonic() - began:.0f} s")
    return survivors


def main(arguments: Sequence[str] | None = None) -> int:
    """Try changes of some files, or of what has changed since a revision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"files or folders (default: {PACKAGE})")
    parser.add_argument("--since", metavar="REVISION", help="only lines that differ from this revision, such as HEAD~1")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to try (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the changes and their order (default: 0)")
    options = parser.parse_args(arguments)
    files = changed_lines(options.since) if options.since else files_of(options.paths or [PACKAGE])
    chooser = random.Random(options.seed)
    changes = [change for file, lines in files.items() for change in changes_of(file, lines, chooser)]
    chooser.shuffle(changes)
    try_all(changes, options.minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
