"""The table of the named workloads: actors of the Savina suite, and patterns of Task Bench."""

from __future__ import annotations

from typing import Any

from benchmarks._report import NOTHING, number
from benchmarks.page._figures import machine
from benchmarks.page._regions import paragraph, table
from benchmarks.savina._run import median
from benchmarks.savina._workloads import WORKLOADS
from benchmarks.savina.point import STAGES

Written = dict[str, Any]
"""What `python -m benchmarks savina --json` has written."""


def conditions(written: Written) -> str:
    """Return where it was measured."""
    return paragraph(f"{machine(written['run'])} Medians of {written['run']['rounds']} rounds.")


def workloads(written: Written) -> str:
    """Return the table, and what each workload does."""
    rows = [
        [name, one["unit"], *(_value(one["stages"].get(stage)) for stage in STAGES)]
        for name, one in written["workloads"].items()
    ]
    meanings = "\n".join(f"- {one.name}: {(one.run.__doc__ or '').strip()}" for one in WORKLOADS)
    return f"{table(['workload', 'unit', *STAGES], rows)}\n\n{meanings}"


def _value(values: list[float] | None) -> str:
    """Return a median with half the distance between the lowest and the highest round."""
    if values is None:
        return NOTHING
    middle = median(values)
    if not middle:
        return "failed"
    if len(values) == 1:
        return number(middle)
    return f"{number(middle)} ±{(max(values) - min(values)) / 2 / middle:.0%}"
