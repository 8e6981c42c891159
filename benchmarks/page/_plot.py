"""Plots of measured points and fitted curves as SVG, with logarithmic axes.

A drawing has no background; its colours are readable on a light page and on a dark one.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 78, 26, 16, 52
"""Margins, in pixels; the left one holds the labels of the vertical axis."""
INKS = ("#3f7fbf", "#c06a2a", "#3f9a63", "#9a63b8")
TEXT, GRID = "#808890", "#80889055"
_STEPS = 60
"""Straight parts of a curve."""
_CROWDED = 7
"""Decades from which only every other one is labelled."""


@frozen
class Drawn:
    """One value: its points, and the curve through them."""

    label: str
    points: list[tuple[float, float]]
    curve: Callable[[float], float]


@frozen
class _Axis:
    """A logarithmic axis over whole decades."""

    first: int
    last: int
    begin: float
    end: float

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        part = (math.log10(value) - self.first) / (self.last - self.first)
        return self.begin + part * (self.end - self.begin)

    def decades(self) -> list[int]:
        """Return the exponents of the lines of the grid."""
        return list(range(self.first, self.last + 1))

    def labelled(self, decade: int) -> bool:
        """Say whether there is room for the label of a decade."""
        return self.last - self.first < _CROWDED or (decade - self.first) % 2 == 0


def plot(title: str, x_label: str, y_label: str, drawn: Sequence[Drawn]) -> str:
    """Draw points and curves.

    Args:
        title: What screen readers read.
        x_label: The quantity of the horizontal axis, with its unit.
        y_label: The unit of the vertical axis.
        drawn: What to draw; all values are above 0.

    Returns:
        The drawing as SVG.
    """
    across = _axis([x for one in drawn for x, _ in one.points], LEFT, WIDTH - RIGHT)
    up = _axis([y for one in drawn for _, y in one.points], HEIGHT - BOTTOM, TOP)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        *_grid(across, up),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"),
        f'<g transform="rotate(-90)">{_text(-(TOP + HEIGHT - BOTTOM) / 2, 14, y_label, "middle")}</g>',
    ]
    for number, (one, ink) in enumerate(zip(drawn, INKS, strict=False)):
        parts += _curve(one, across, up, ink)
        parts.append(_text(LEFT + 12, TOP + 16 + 17 * number, one.label, "start", fill=ink, bold=True))
    return "\n".join([*parts, "</svg>\n"])


def _axis(values: Sequence[float], begin: float, end: float) -> _Axis:
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return _Axis(first, max(last, first + 1), begin, end)


def _grid(across: _Axis, up: _Axis) -> Iterator[str]:
    for decade in across.decades():
        x = across.at(10.0**decade)
        yield f'<line x1="{x:.1f}" y1="{up.begin}" x2="{x:.1f}" y2="{up.end}" stroke="{GRID}"/>'
        if across.labelled(decade):
            yield _text(x, up.begin + 18, _power(decade), "middle")
    for decade in up.decades():
        y = up.at(10.0**decade)
        yield f'<line x1="{across.begin}" y1="{y:.1f}" x2="{across.end}" y2="{y:.1f}" stroke="{GRID}"/>'
        if up.labelled(decade):
            yield _text(across.begin - 8, y + 4, _power(decade), "end")


def _curve(one: Drawn, across: _Axis, up: _Axis, ink: str) -> Iterator[str]:
    least, greatest = min(x for x, _ in one.points), max(x for x, _ in one.points)
    lowest, highest = 10.0**up.first, 10.0**up.last
    steps = [least * (greatest / least) ** (step / _STEPS) for step in range(_STEPS + 1)]
    line = " ".join(f"{across.at(x):.1f},{up.at(min(max(one.curve(x), lowest), highest)):.1f}" for x in steps)
    yield f'<polyline points="{line}" fill="none" stroke="{ink}" stroke-width="1.5" stroke-dasharray="5 3"/>'
    for x, y in one.points:
        yield f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="4" fill="{ink}"/>'


_NAMED = {-6: "1 µ", -5: "10 µ", -4: "100 µ", -3: "1 m", -2: "0.01", -1: "0.1"}


def _power(decade: int) -> str:
    """Return the label of a power of ten."""
    return f"{10**decade:,}" if decade >= 0 else _NAMED.get(decade, f"1e{decade}")


def _text(x: float, y: float, text: str, anchor: str, *, fill: str = TEXT, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{weight}>{escape(text)}</text>'
