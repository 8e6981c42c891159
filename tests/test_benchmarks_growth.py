"""How growth and named workloads are measured: curves, plots, pages, and the workloads on their floor."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.growth._fit import fit
from benchmarks.growth._run import curves, formula
from benchmarks.growth._series import SERIES
from benchmarks.growth.point import MEASURES
from benchmarks.page import _growth, _savina
from benchmarks.page._plot import Drawn, plot
from benchmarks.savina._run import METG_UNIT
from benchmarks.savina._stages import open_tasks
from benchmarks.savina._workloads import ACTOR_FUNCTIONS, WORKLOADS, Workload

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {
    "date": "2026-01-02",
    "commit": "abc",
    "python": "3.11",
    "system": "Linux 6",
    "processor": "one",
    "processors": 2,
    "memory_GB": 8,
    "load_before": 0.1,
    "rounds": 3,
}


def test_a_line_is_found_through_points_that_span_decades() -> None:
    curve = fit("line", [(x, 2.0 + 0.5 * x) for x in (1, 10, 1_000, 100_000)])
    assert [curve.a, curve.b] == pytest.approx([2.0, 0.5])
    assert curve.deviation == pytest.approx(0.0, abs=1e-9)


def test_a_small_point_counts_as_much_as_a_large_one() -> None:
    curve = fit("line", [(1, 1.1), (10, 10.0), (1_000, 1_000.0)])
    assert curve.at(1) == pytest.approx(1.1, rel=0.05)
    assert 0 < curve.deviation < 0.05


def test_the_exponent_of_a_rate_that_does_not_change_is_zero() -> None:
    assert fit("power", [(x, 7.0) for x in (1, 10, 100)]).b == pytest.approx(0.0)
    curve = fit("power", [(x, 3.0 * x**-0.5) for x in (1, 10, 100)])
    assert [curve.a, curve.b] == pytest.approx([3.0, -0.5])
    assert formula(curve, "servers") == "3 · servers^-0.50"


def test_a_plot_has_all_points_labels_and_curves() -> None:
    drawn = [
        Drawn("first <1>", [(1, 0.001), (1_000, 1.0)], lambda x: x / 1_000),
        Drawn("second", [(10, 0.5)], lambda _: 0.5),
    ]
    drawing = ET.fromstring(plot("Both", "servers", "s", drawn))  # noqa: S314 - our own text
    assert len(drawing.findall(f"{SVG}circle")) == 3
    assert len(drawing.findall(f"{SVG}polyline")) == 2
    texts = {text.text for text in drawing.iter(f"{SVG}text")}
    assert {"first <1>", "second", "servers", "s", "1", "10", "100", "1,000"} <= texts
    places = [(float(one.get("cx", "")), float(one.get("cy", ""))) for one in drawing.findall(f"{SVG}circle")]
    assert all(0 < x < 640 and 0 < y < 360 for x, y in places)
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1], "larger values are higher"


@pytest.fixture
def written() -> dict[str, Any]:
    """What a run of growth writes; a value of a point is its x."""
    found: dict[str, Any] = {"run": MACHINE, "series": {}}
    for series in SERIES:
        points: list[dict[str, float]] = [
            {"x": x, **dict.fromkeys((one.name for one in series.values), float(x))} for x in series.range
        ]
        found["series"][series.name] = {"points": points, "curves": curves(series, points)}
    return found


def test_the_page_about_growth_shows_each_series_with_its_plots(written: dict[str, Any]) -> None:
    text, drawings = _growth.curves(written), _growth.drawings(written)
    assert {name for name in drawings if f"(../_static/growth/{name})" not in text} == set()
    for series in SERIES:
        assert series.quantity[1:] in text
        assert f"| {series.range[-1]:,} |" in text
    assert "commit `abc`" in _growth.conditions(written)


def test_the_limits_come_from_the_curves(written: dict[str, Any]) -> None:
    rows = [line for line in _growth.limits(written).splitlines() if line.startswith("| 1,000 ")]
    # One client does 200 jobs a second here, and a coroutine on each of n servers takes n seconds.
    assert [cell.strip() for cell in rows[0].strip("|").split("|")][1:4] == ["16,000", "80,000 ms", "16,000 s"]


def test_every_series_can_be_measured() -> None:
    assert set(MEASURES) == {series.name for series in SERIES}


def test_the_table_of_workloads_shows_medians_and_spreads() -> None:
    stages = {"2 servers": [90.0, 100.0, 110.0], "1 server": [], "Trio tasks": [5.0]}
    workloads = {"Big": {"unit": "messages/s", "stages": stages}, "fft": {"unit": METG_UNIT, "stages": {}}}
    lines = _savina.workloads({"run": MACHINE, "workloads": workloads}).splitlines()
    assert lines[2:4] == ["| Big | messages/s | 100 ±10% | failed | 5.00 |", f"| fft | {METG_UNIT} | - | - | - |"]
    assert sum(line.startswith("- ") for line in lines) == len(WORKLOADS)


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one.name)
async def test_each_workload_does_all_of_its_work_on_the_floor(workload: Workload) -> None:
    async with open_tasks() as stage:
        assert await workload.run(stage) > 0


def test_all_actors_are_shipped() -> None:
    assert len(set(ACTOR_FUNCTIONS)) == len(ACTOR_FUNCTIONS) == 13
