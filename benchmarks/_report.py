"""The results as plain text: aligned tables, and a line for each thing that is missing."""

from __future__ import annotations

import math
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks._results import Result, Run

NOTHING = "-"
HEADINGS = ("figure", "unit", "better", "discoro", "floor", "÷ floor", "best peer", "÷ peer", "mark")
DIGITS = 3
"""More of a figure is noise."""
WORDS = frozenset({"figure", "unit", "better", "mark"})
"""Headings of columns that are aligned to the left, as words are; the others hold numbers."""


def report(run: Run) -> str:
    """Return all that a person should see of a run."""
    blocks = [table(HEADINGS, [_row(result) for result in run.results])]
    if any(len(result.peers) > 1 for result in run.results):
        blocks.append(_peers_table(run.results))
    if notes := [*_failures(run.results), *_left_out(run)]:
        blocks.append("\n".join(notes))
    return "\n\n".join(blocks)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align cells in columns: words to the left, numbers to the right."""
    columns = zip_longest(headings, *rows, fillvalue="")
    aligned = [_column(column) for column in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*aligned, strict=True))


def _column(cells: Sequence[str]) -> list[str]:
    width = max(map(len, cells))
    align = str.ljust if cells[0] in WORDS else str.rjust
    return [align(cell, width) for cell in cells]


def _row(result: Result) -> tuple[str, ...]:
    figure, best = result.figure, result.best_peer
    return (
        figure.name,
        figure.unit,
        figure.better,
        number(result.discoro),
        number(result.floor),
        number(result.ratio_to("floor")),
        NOTHING if best is None else f"{best} {number(result.peers[best])}",
        number(result.ratio_to(best)),
        mark_of(result),
    )


def mark_of(result: Result, *, missed: str = "missed") -> str:
    """Return the mark of a figure, and whether it is reached; with `missed` if it is not."""
    mark = result.figure.mark
    if mark is None:
        return NOTHING
    relation = "≥" if result.figure.better == "higher" else "≤"
    of = result.figure.unit if mark.of is None else f"of {mark.of}"
    verdict = {True: "reached", False: missed, None: "not known"}[result.reached]
    return f"{relation} {mark.bound:g} {of}: {verdict}"


def _peers_table(results: Sequence[Result]) -> str:
    names = list(dict.fromkeys(name for result in results for name in result.peers))
    rows = [[result.figure.name, *(number(result.peers.get(name)) for name in names)] for result in results]
    return table(["figure", *names], rows)


def number(value: float | None) -> str:
    """Return a number with as many digits as count, and all of those before the point."""
    if value is None:
        return NOTHING
    digits_before_point = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, DIGITS - digits_before_point)}f}"


def _failures(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        for name, reason in result.failures.items():
            yield f"{name} failed at {result.figure.name}: {reason}"


def _left_out(run: Run) -> Iterator[str]:
    """Name the systems without a figure; those with the same reason in one line."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in run.not_measured.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"not measured: {', '.join(names)}: {reason}"
