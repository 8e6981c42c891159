"""All points of all series, the curves through them, and what is written as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import _machine
from benchmarks._processes import MeasurementError, run_for_output
from benchmarks._report import number, table
from benchmarks.growth._fit import Curve, fit
from benchmarks.growth._series import SERIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.growth._series import Series, Value

_PATIENCE = 90.0
"""Seconds for one point; starting 200 servers on busy processors takes most."""

Point = dict[str, float]


def run(file: Path | None, *, quick: bool) -> bool:
    """Measure all series, print them, and write them to a file; tell whether every point was measured.

    Args:
        file: Where to write JSON; None: nowhere.
        quick: Leave out the two largest points of each series.
    """
    written: dict[str, Any] = {"run": _machine.described(), "series": {}}
    complete = True
    for series in SERIES:
        points: list[Point] = []
        for amount in series.range[:-2] if quick else series.range:
            if sys.stderr.isatty():
                print(f"measuring {amount:,} {series.quantity} …", file=sys.stderr)
            try:
                points.append({"x": amount, **_measured(series, amount)})
            except MeasurementError as error:
                complete = False
                print(f"{series.name} failed at {amount:,}: {error}", file=sys.stderr)
        written["series"][series.name] = {"points": points, "curves": curves(series, points)}
        print(_shown(series, written["series"][series.name]) + "\n", flush=True)
    if file is not None:
        file.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return complete


def _measured(series: Series, amount: int) -> Point:
    command = [sys.executable, "-m", "benchmarks.growth.point", series.name, str(amount)]
    output, reason = run_for_output(command, timeout=_PATIENCE)
    try:
        found: Point = json.loads(output)
    except ValueError:
        raise MeasurementError(reason) from None
    return found


def curves(series: Series, points: list[Point]) -> dict[str, dict[str, float | str]]:
    """Fit the curve of each value; none if there are fewer than two points."""
    if len(points) < 2:  # noqa: PLR2004 - a curve of two parameters
        return {}
    found: dict[str, dict[str, float | str]] = {}
    for value in series.values:
        curve = fit(value.kind, [(point["x"], point[value.name]) for point in points])
        found[value.name] = {"kind": curve.kind, "a": curve.a, "b": curve.b, "deviation": curve.deviation}
    return found


def curve_of(written: Mapping[str, Any], value: Value) -> Curve:
    """Return a curve that was written."""
    found = written["curves"][value.name]
    return Curve(found["kind"], found["a"], found["b"], found["deviation"])


def _shown(series: Series, written: Mapping[str, Any]) -> str:
    headings = [series.name, *(f"{value.name}" for value in series.values)]
    rows = [[f"{point['x']:,}", *(number(point[value.name]) for value in series.values)] for point in written["points"]]
    fitted = [f"{value.name} ≈ {formula(curve_of(written, value), series.name)}" for value in series.values]
    return "\n".join([table(headings, rows), *(fitted if written["curves"] else [])])


def formula(curve: Curve, x: str) -> str:
    """Return a curve as text."""
    if curve.kind == "line":
        return f"{curve.a:.3g} + {curve.b:.3g} · {x}"
    return f"{curve.a:.3g} · {x}^{curve.b:.2f}"
