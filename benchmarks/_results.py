"""A figure's result: what each system has reached, how this project stands to the others, and all results of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from benchmarks._figures import FIGURES
from benchmarks._systems import DISCORO, FLOOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks._figures import Figure

    Spread = tuple[float, float]


@frozen
class Result:
    """The medians of one figure, by the names of the systems."""

    figure: Figure
    medians: dict[str, float]
    failures: dict[str, str] = Factory(dict)
    spreads: dict[str, Spread] = Factory(dict)
    """The least and the greatest value of each system."""

    @property
    def discoro(self) -> float | None:
        """What this project reaches."""
        return self.medians.get(DISCORO.name)

    @property
    def floor(self) -> float | None:
        """What bare Trio reaches."""
        return self.medians.get(FLOOR.name)

    @property
    def peers(self) -> dict[str, float]:
        """What the other systems reach."""
        ours = (DISCORO.name, FLOOR.name)
        return {name: value for name, value in self.medians.items() if name not in ours}

    @property
    def best_peer(self) -> str | None:
        """The name of the best of the other systems."""
        choose = max if self.figure.better == "higher" else min
        return choose(self.peers, key=self.peers.__getitem__, default=None)

    def ratio_to(self, name: str | None) -> float | None:
        """Return this project's value as a part of another system's, if there are both."""
        other = None if name is None else self.medians.get(name)
        return self.discoro / other if self.discoro is not None and other else None

    def advantage_over(self, name: str | None) -> float | None:
        """Return how many times as good this project is as another system: above 1 it is better, below it is worse."""
        ratio = self.ratio_to(name)
        return ratio if ratio is None or self.figure.better == "higher" else 1 / ratio

    @property
    def reached(self) -> bool | None:
        """Whether the figure's mark is reached; None: it has none, or a value is missing."""
        mark = self.figure.mark
        if mark is None:
            return None
        value = self.discoro if mark.of is None else self.ratio_to(mark.of)
        if value is None:
            return None
        return value >= mark.bound if self.figure.better == "higher" else value <= mark.bound


@frozen
class Run:
    """All results of one run, with what a reader needs to judge them."""

    results: list[Result]
    conditions: dict[str, Any] = Factory(dict)
    """The machine, the code and the rounds."""
    versions: dict[str, str] = Factory(dict)
    """The version of each peer."""
    not_measured: dict[str, str] = Factory(dict)
    """Why a system has no figures at all."""


def as_json(run: Run) -> dict[str, Any]:
    """Return what `--json` writes; a value that is missing is None."""
    return {
        "run": run.conditions,
        "versions": run.versions,
        "not_measured": run.not_measured,
        "figures": {result.figure.name: _figure_as_json(result) for result in run.results},
    }


def _figure_as_json(result: Result) -> dict[str, Any]:
    return {
        "discoro": result.discoro,
        "floor": result.floor,
        "peers": result.peers,
        "unit": result.figure.unit,
        "better": result.figure.better,
        "spread": {name: list(spread) for name, spread in result.spreads.items()},
        "failures": result.failures,
    }


def from_json(written: Mapping[str, Any]) -> Run:
    """Return the run that was written; figures that no longer exist are left out."""
    figures = {figure.name: figure for figure in FIGURES}
    results = [_result_from_json(figures[name], part) for name, part in written["figures"].items() if name in figures]
    return Run(results, written["run"], written["versions"], written["not_measured"])


def _result_from_json(figure: Figure, written: Mapping[str, Any]) -> Result:
    medians = {DISCORO.name: written["discoro"], FLOOR.name: written["floor"], **written["peers"]}
    return Result(
        figure,
        {name: value for name, value in medians.items() if value is not None},
        written["failures"],
        {name: (least, greatest) for name, (least, greatest) in written["spread"].items()},
    )
