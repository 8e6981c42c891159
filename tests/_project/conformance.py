"""Which tests hold which rows of docs/conformance_rows.toml.

This program owns reading the rows and the marks of the tests (without running them) and writing
docs/conformance.md. What the rows say is in the file of the rows.

Run as `python -m tests._project.conformance`: writes the table and prints the rows that no test names.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "docs" / "conformance_rows.toml"
TABLE = ROOT / "docs" / "conformance.md"
TESTS = ROOT / "tests"
MARKS = frozenset({"spec", "fault"})

HEAD = """# Conformance

What the project promises, and the tests that would fail without it. {covered} of {count} rows have a test.
"""


class UnclearMarkError(Exception):
    """A mark whose rows cannot be read from the source."""


class Section(NamedTuple):
    """One section of the table."""

    title: str
    rows: dict[str, str]
    """Row id to statement, in order."""


TestsByRow: TypeAlias = dict[str, list[str]]


def read_rows(path: Path) -> list[Section]:
    """Read the sections with their rows.

    Args:
        path: The TOML file.

    Returns:
        The sections in the order of the file.

    Raises:
        ValueError: When a row stands twice.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    sections = [Section(section["title"], section["rows"]) for section in table["section"]]
    seen: set[str] = set()
    for section in sections:
        if twice := seen & section.rows.keys():
            message = f"{path}: {', '.join(sorted(twice))} stand in two sections"
            raise ValueError(message)
        seen |= section.rows.keys()
    return sections


def read_marks(folder: Path) -> TestsByRow:
    """Find the tests that name rows, by their source.

    Args:
        folder: Where the tests are.

    Returns:
        Row id to the names of its tests, each as `folder/test_module.py::test_name`.

    Raises:
        UnclearMarkError: When a mark names its rows by anything but plain strings.
    """
    found: TestsByRow = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        module = path.relative_to(folder).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for test, rows in _marked(tree, module):
            for row in rows:
                if test not in found[row]:
                    found[row].append(test)
    return dict(found)


def _marked(tree: ast.Module, module: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each test, class or module that carries marks, with the rows that it names."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
        ):
            yield module, _rows_in(node.value, module)
    yield from _marked_definitions(tree.body, module)


def _marked_definitions(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[str, list[str]]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}::{node.name}"
            for decorator in node.decorator_list:
                yield name, _rows_in(decorator, name)
            if isinstance(node, ast.ClassDef):
                yield from _marked_definitions(node.body, name)


def _rows_in(expression: ast.expr, where: str) -> list[str]:
    rows: list[str] = []
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and _is_mark(node.func):
            for argument in node.args:
                if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                    message = f'{where}: name the rows as plain strings, like pytest.mark.spec("S43")'
                    raise UnclearMarkError(message)
                rows.append(argument.value)
    return rows


def _is_mark(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in MARKS
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "mark"
    )


def untested(sections: Sequence[Section], marks: TestsByRow) -> list[str]:
    """Return the rows that no test names, in order."""
    return [row for section in sections for row in section.rows if row not in marks]


def unknown(sections: Sequence[Section], marks: TestsByRow) -> list[str]:
    """Return what tests name and no section has."""
    known = {row for section in sections for row in section.rows}
    return sorted(marks.keys() - known)


def render(sections: Sequence[Section], marks: TestsByRow) -> str:
    """Write the table in Markdown.

    Args:
        sections: What is promised.
        marks: The tests of each row.

    Returns:
        The page.
    """
    count = sum(len(section.rows) for section in sections)
    lines = [HEAD.format(covered=count - len(untested(sections, marks)), count=count)]
    for section in sections:
        lines += [f"## {section.title}", "", "| row | what holds | shown by |", "| --- | --- | --- |"]
        for row, statement in section.rows.items():
            tests = "<br>".join(f"`{test}`" for test in marks.get(row, ())) or "none yet"
            lines.append(f"| {row} | {statement} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def write_table() -> tuple[list[Section], TestsByRow]:
    """Bring docs/conformance.md up to date.

    Returns:
        The sections and the marks that the table was made from.
    """
    sections, marks = read_rows(ROWS), read_marks(TESTS)
    TABLE.write_text(render(sections, marks), encoding="utf-8")
    return sections, marks


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, print the rows without a test; 1 when a test names a row that is none."""
    argparse.ArgumentParser(description="Write docs/conformance.md.").parse_args(arguments)
    sections, marks = write_table()
    missing = untested(sections, marks)
    print(f"{len(missing)} rows have no test:" if missing else "every row has a test")
    for section in sections:
        if rows := [row for row in section.rows if row in missing]:
            print(f"  {section.title}: {' '.join(rows)}")
    strange = unknown(sections, marks)
    for row in strange:
        print(f"{row} is no row of {ROWS.name}; it is named by {', '.join(marks[row])}")
    return 1 if strange else 0


if __name__ == "__main__":
    sys.exit(main())
