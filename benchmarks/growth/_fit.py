"""Curves of two parameters through measured points, by least squares of the relative deviations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = Sequence[tuple[float, float]]

Kind = Literal["line", "power"]


@frozen
class Curve:
    """``a + b·x`` for a line, ``a·x**b`` for a power."""

    kind: Kind
    a: float
    b: float
    deviation: float
    """The largest relative deviation of a point from the curve."""

    def at(self, x: float) -> float:
        """Return the curve's value."""
        return self.a + self.b * x if self.kind == "line" else self.a * x**self.b


def fit(kind: Kind, points: Points) -> Curve:
    """Fit a curve to positive points.

    Args:
        kind: "line" where a cost is added for each; "power" for a rate, whose exponent is 0 if it does not change.
        points: Two or more with different x; all x and y are above 0.
    """
    if kind == "line":
        # Each point weighs as much as its relative deviation: otherwise the largest would decide alone.
        a, b = _regression([(x, y, 1 / y**2) for x, y in points])
    else:
        logarithm, b = _regression([(math.log(x), math.log(y), 1.0) for x, y in points])
        a = math.exp(logarithm)
    curve = Curve(kind, a, b, 0.0)
    return Curve(kind, a, b, max(abs(curve.at(x) / y - 1) for x, y in points))


def _regression(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return intercept and slope of the weighted regression; a point is x, y and its weight."""
    total = sum(weight for _, _, weight in points)
    mean_x = sum(weight * x for x, _, weight in points) / total
    mean_y = sum(weight * y for _, y, weight in points) / total
    slope = sum(weight * (x - mean_x) * (y - mean_y) for x, y, weight in points) / sum(
        weight * (x - mean_x) ** 2 for x, _, weight in points
    )
    return mean_y - slope * mean_x, slope
