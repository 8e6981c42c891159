"""The page about growth: plots, fitted curves, and what they say about clusters that are larger than one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks._report import number
from benchmarks.growth._run import curve_of, formula
from benchmarks.growth._series import SERIES
from benchmarks.page._figures import machine
from benchmarks.page._plot import Drawn, plot
from benchmarks.page._regions import paragraph, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.growth._fit import Curve
    from benchmarks.growth._series import Series, Value

Written = dict[str, Any]
"""What `python -m benchmarks growth --json` has written."""

MACHINES = (100, 1_000, 10_000)
SERVERS_A_MACHINE = 16
DESCRIPTORS = 1 << 20
"""Descriptors that Linux allows a process by default (`fs.nr_open`)."""
_MEBIBYTE = 1 << 20


def conditions(written: Written) -> str:
    """Return where it was measured."""
    return paragraph(f"{machine(written['run'])} Each point is one measurement in a process of its own.")


def drawings(written: Written) -> dict[str, str]:
    """Return the plots by their names: one for each series and unit."""
    found = {}
    for series in SERIES:
        for unit in dict.fromkeys(value.unit for value in series.values):
            drawn = [_drawn(written["series"][series.name], one) for one in series.values if one.unit == unit]
            title = f"{', '.join(one.label for one in drawn)}, by {series.quantity}"
            found[_file(series, unit)] = plot(title, series.quantity, unit, drawn)
    return found


def _file(series: Series, unit: str) -> str:
    return f"{series.name}_{unit.replace('/', '_per_')}.svg"


def _drawn(written: Mapping[str, Any], value: Value) -> Drawn:
    points = [(point["x"], point[value.name]) for point in written["points"]]
    return Drawn(value.meaning, points, curve_of(written, value).at)


def curves(written: Written) -> str:
    """Return the chapters: each series with its plots, its curves and its points."""
    return "\n\n".join(_chapter(series, written["series"][series.name]) for series in SERIES)


def _chapter(series: Series, written: Mapping[str, Any]) -> str:
    title = series.quantity[0].upper() + series.quantity[1:]
    plots = [
        f"![{title}, {unit}](../_static/growth/{_file(series, unit)})"
        for unit in dict.fromkeys(value.unit for value in series.values)
    ]
    fitted = []
    for value in series.values:
        curve = curve_of(written, value)
        worst = f"the worst point is {curve.deviation:.0%} off"
        fitted.append(f"- {value.meaning}, in {value.unit}: {formula(curve, series.name)}; {worst}")
    headings = [series.name, *(f"{value.meaning} ({value.unit})" for value in series.values)]
    rows = [[f"{one['x']:,}", *(number(one[value.name]) for value in series.values)] for one in written["points"]]
    return "\n\n".join([f"### {title}", *plots, "\n".join(fitted), table(headings, rows)])


def limits(written: Written) -> str:
    """Return what the curves give for clusters of many machines, as a table."""
    each = _curve(written, "servers", "each_s")
    rate = written["series"]["servers"]["points"][-1]["jobs_per_s"]
    tls = _curve(written, "bytes", "tls_s")
    publish = _curve(written, "subscribers", "message_s")
    rows = []
    for machines in MACHINES:
        servers = machines * SERVERS_A_MACHINE
        broadcast = machines * (tls.at(_MEBIBYTE) - tls.at(1)) / 2
        rows.append(
            [
                f"{machines:,}",
                f"{servers:,}",
                f"{number(servers / rate * 1000)} ms",
                f"{number(each.at(servers))} s",
                f"{number(publish.at(servers) * 1000)} ms",
                f"{number(broadcast)} s",
                f"{servers + machines:,} of {DESCRIPTORS:,}",
            ]
        )
    headings = [
        "machines",
        f"servers, {SERVERS_A_MACHINE} each",
        "shortest single job that keeps all busy",
        "one coroutine on each server",
        "a message to a subscriber on each",
        "1 MiB to each machine",
        "connections of the client",
    ]
    return table(headings, rows)


def _curve(written: Written, series: str, value: str) -> Curve:
    found = next(one for one in SERIES if one.name == series)
    return curve_of(written["series"][series], next(one for one in found.values if one.name == value))
