"""A figure's result: what each system has reached, and how this project stands to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from benchmarks._systems import DISCORO, FLOOR

if TYPE_CHECKING:
    from benchmarks._figures import Figure


@frozen
class Result:
    """The medians of one figure, by the names of the systems."""

    figure: Figure
    medians: dict[str, float]
    failures: dict[str, str] = Factory(dict)

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


def as_json(results: list[Result]) -> dict[str, Any]:
    """Return what `--json` writes; a value that is missing is None."""
    return {"figures": {result.figure.name: _figure_as_json(result) for result in results}}


def _figure_as_json(result: Result) -> dict[str, Any]:
    return {
        "discoro": result.discoro,
        "floor": result.floor,
        "peers": result.peers,
        "unit": result.figure.unit,
        "better": result.figure.better,
    }
