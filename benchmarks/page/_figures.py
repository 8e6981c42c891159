"""The tables of the figures, as Markdown: this project beside the floor and the peers, and where it is behind."""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._report import NOTHING, mark_of, number
from benchmarks._systems import DISCORO, FLOOR, PLAIN, ROOT
from benchmarks.page._regions import paragraph, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._figures import Figure
    from benchmarks._results import Result, Run

CLOSE = 0.95
"""A system that is better by less is not counted as better; runs differ by as much."""

_mark = partial(mark_of, missed="**missed**")


def meaning(figure: Figure) -> str:
    """Return the first line of the module that measures the figure for this project."""
    path = ROOT.joinpath(*DISCORO.package.split("."), f"{figure.module}.py")
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return documentation.split("\n\n")[0].replace("\n", " ")


def conditions(run: Run) -> str:
    """Return the machine, the versions and the method of a run, as a paragraph."""
    about = run.conditions
    versions = [f"{name} {version}" for name, version in sorted(run.versions.items(), key=lambda item: item[0].lower())]
    return paragraph(
        " ".join(
            [
                f"{machine(about)} Medians of {about['rounds']} rounds of {about['seconds']:g} s that alternate",
                "between the systems; ± is half the distance between the lowest and the highest round.",
                *([f"Versions: {', '.join(versions)}."] if versions else []),
            ]
        )
    )


def machine(about: dict[str, Any]) -> str:
    """Return on which machine something was measured, as a sentence or two."""
    return (
        f"Measured on {about['date']} at commit `{about['commit']}` with Python {about['python']} on "
        f"{about['system']}: {about['processor']}, {about['processors']} processors, {about['memory_GB']} GB; "
        f"load {about['load_before']} before the run."
    )


def ours(run: Run) -> str:
    """Return the table of this project, the floor and the best peer, and what each figure is."""
    headings = ["figure", "unit", "discoro_trio", "floor", "× floor", "best peer", "× peer", "mark"]
    return f"{table(headings, [_row(result) for result in run.results])}\n\n{_meanings(run)}"


def _row(result: Result) -> list[str]:
    best = result.best_peer
    return [
        f"`{result.figure.name}`",
        f"{result.figure.unit}, {result.figure.better} is better",
        _value(result, DISCORO.name),
        _value(result, FLOOR.name),
        number(result.advantage_over(FLOOR.name)),
        NOTHING if best is None else f"{best}: {_value(result, best)}",
        number(result.advantage_over(best)),
        _mark(result),
    ]


def _value(result: Result, name: str) -> str:
    """Return a median with half the distance between the lowest and the highest round."""
    median = result.medians.get(name)
    if median is None:
        return "failed" if name in result.failures else NOTHING
    if name not in result.spreads or not median:
        return number(median)
    least, greatest = result.spreads[name]
    return f"{number(median)} ±{(greatest - least) / 2 / median:.0%}"


def _meanings(run: Run) -> str:
    return "\n".join(f"- `{result.figure.name}`: {meaning(result.figure)}" for result in run.results)


def peers(run: Run) -> str:
    """Return the table of all systems, the best value of each figure in bold; the floor is not a competitor."""
    measured = {name for result in run.results for name in result.peers}
    names = [DISCORO.name, *sorted(measured - {PLAIN.name}, key=str.lower)]
    rows = []
    for result in run.results:
        values = {name: result.medians[name] for name in names if name in result.medians}
        if len(values) > 1:
            best = (max if result.figure.better == "higher" else min)(values.values())
            cells = [f"**{number(value)}**" if value == best else number(value) for value in map(values.get, names)]
            rows.append([f"`{result.figure.name}`", result.figure.unit, *cells])
    return table(["figure", "unit", *names], rows)


def behind(run: Run) -> str:
    """Return where others are better, and which marks are missed."""
    lines = [*_better_peers(run), *_missed_marks(run)]
    return "\n".join(f"- {line}" for line in lines) or "- Nowhere in this run."


def _better_peers(run: Run) -> Iterator[str]:
    for result in run.results:
        for name in result.peers:
            advantage = result.advantage_over(name)
            if name != PLAIN.name and advantage is not None and advantage < CLOSE:
                theirs, mine = number(result.medians[name]), number(result.discoro)
                yield f"`{result.figure.name}`: {name} {theirs} {result.figure.unit}, discoro_trio {mine}."


def _missed_marks(run: Run) -> Iterator[str]:
    for result in run.results:
        if result.reached is False:
            yield f"`{result.figure.name}`: {number(result.discoro)} {result.figure.unit}; the mark is {_mark(result)}."


def missing(run: Run) -> str:
    """Return which systems were not measured and which measurements failed, each with its reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in run.not_measured.items():
        by_reason.setdefault(reason, []).append(name)
    absent = [f"{', '.join(names)}: {reason}." for reason, names in by_reason.items()]
    failed = [
        f"{name} failed at `{result.figure.name}`: {reason}."
        for result in run.results
        for name, reason in result.failures.items()
    ]
    return "\n".join(f"- {line}" for line in absent + failed) or "- Every system was measured."
