"""All workloads on all stages, in rounds that alternate between the stages, and what is written as JSON."""

from __future__ import annotations

import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import _machine
from benchmarks._processes import MeasurementError, run_for_number
from benchmarks._report import number, table
from benchmarks.savina._workloads import WORKLOADS
from benchmarks.savina.point import PATTERNS, STAGES

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE = 60.0
"""Seconds for one workload on one stage."""
METG_UNIT = "µs, METG at 50 %"


def run(file: Path | None, *, quick: bool) -> bool:
    """Measure, print, and write all workloads; tell whether each was measured."""
    rounds = 1 if quick else 3
    written: dict[str, Any] = {"run": {**_machine.described(), "rounds": rounds}, "workloads": {}}
    for name, unit, stages in [
        *((workload.name, workload.unit, list(STAGES)) for workload in WORKLOADS),
        *((pattern, METG_UNIT, ["2 servers"]) for pattern in PATTERNS),
    ]:
        if sys.stderr.isatty():
            print(f"measuring {name} …", file=sys.stderr)
        written["workloads"][name] = {"unit": unit, "stages": _stages(name, stages, rounds)}
    print(_shown(written["workloads"]))
    if file is not None:
        file.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return all(values for one in written["workloads"].values() for values in one["stages"].values())


def _stages(name: str, stages: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the values of each stage, one a round; a stage that fails has fewer."""
    values: dict[str, list[float]] = {stage: [] for stage in stages}
    for _ in range(rounds):
        for stage in stages:
            try:
                found = run_for_number(["-m", "benchmarks.savina.point", stage, name], timeout=_PATIENCE)
            except MeasurementError as error:
                print(f"{name} failed on {stage}: {error}", file=sys.stderr)
            else:
                values[stage].append(found)
    return values


def median(values: list[float]) -> float | None:
    """Return the median; None if there is no value."""
    return statistics.median(values) if values else None


def _shown(workloads: dict[str, Any]) -> str:
    rows = [
        [name, one["unit"], *(number(median(one["stages"].get(stage, []))) for stage in STAGES)]
        for name, one in workloads.items()
    ]
    return table(["figure", "unit", *STAGES], rows)
