"""Draw the layers of the package and the imports between them, from the current source.

Each layer is a row and a column. A disc means that the layer of its row imports the layer of its column; its number and
area show how often. Because imports point one way, no disc is to the left of the diagonal.

Sphinx calls `write` during the build.
"""

from __future__ import annotations

import math
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tests._project import structure

if TYPE_CHECKING:
    from collections.abc import Mapping

DRAWING = Path(__file__).parents[1] / "_static" / "architecture.svg"

ROWS = tuple(reversed(structure.LAYERS))
"""From the top layer to the leaves."""
WIDTH, HEIGHT = 118, 44
"""The size of a box, in pixels."""
PITCH, STEP, MARGIN = 56, 54, 12
"""The distance between rows, the distance between columns, and the outer margin, in pixels."""
LARGEST = 22
"""The radius of the largest disc."""

# Both colours are readable on a light page and on a dark one; the drawing has no background.
INK, TEXT = "#3f7fbf", "#808890"

Imports = dict[str, Counter[str]]


def draw(imports: Imports, lines: Mapping[str, int]) -> str:
    """Draw the layers.

    Args:
        imports: How often each layer imports each other one.
        lines: The lines of code of each layer.

    Returns:
        The drawing as SVG.
    """
    left = MARGIN + WIDTH + STEP // 2
    width, height = left + STEP * len(ROWS) + MARGIN, PITCH * (len(ROWS) + 1) + 2 * MARGIN
    most = max((count for counts in imports.values() for count in counts.values()), default=1)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" text-anchor="middle"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} role="img">',
        "<title>The layers, and how often each imports the ones below it</title>",
    ]
    for column, layer in enumerate(ROWS):
        x = left + STEP * column + STEP / 2
        parts.append(_text(x, MARGIN + PITCH / 2, layer, fill=TEXT, size=12))
    for row, importer in enumerate(ROWS):
        y = MARGIN + PITCH * (row + 1) + PITCH / 2
        parts += _box(importer, y, lines.get(importer, 0))
        for column, imported in enumerate(ROWS):
            x = left + STEP * column + STEP / 2
            count = imports.get(importer, Counter())[imported]
            if row == column:
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{TEXT}"/>')
            elif count:
                parts += _disc(x, y, count, most)
    return "\n".join([*parts, "</svg>\n"])


def _box(layer: str, y: float, lines: int) -> list[str]:
    x = MARGIN + WIDTH / 2
    return [
        f'<rect x="{MARGIN}" y="{y - HEIGHT / 2}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{INK}"/>',
        _text(x, y - 7, layer, fill="white", size=15, weight="bold"),
        _text(x, y + 11, f"{lines:,} lines", fill="white", size=12),
    ]


def _disc(x: float, y: float, count: int, most: int) -> list[str]:
    radius = max(LARGEST * math.sqrt(count / most), 9)
    return [
        f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{INK}"/>',
        _text(x, y, str(count), fill="white", size=12),
    ]


def _text(x: float, y: float, text: str, *, fill: str, size: int, weight: str = "normal") -> str:
    style = f'fill="{fill}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style} dominant-baseline="central">{escape(text)}</text>'


def read() -> tuple[Imports, Counter[str]]:
    """Read the imports and the lines of code of each layer from the source."""
    sources = structure.read_sources(structure.ROOT)
    lines: Counter[str] = Counter()
    for source in sources:
        parts = source.name.removesuffix(".py").split("/")
        if parts[0] == structure.PACKAGE:
            lines[structure.layer_of(parts)] += structure.code_lines(source.text)
    return structure.imports_by_layer(sources), lines


def write() -> None:
    """Write the drawing to the file that the pages include."""
    DRAWING.write_text(draw(*read()), encoding="utf-8")
