"""Regions of a page that a program writes: what stands between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

import re
from textwrap import fill

_WIDTH = 120
"""Characters of a line of text."""


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with another text in a region.

    Args:
        page: The text of the page.
        name: The name of the region.
        text: What is to stand in it.

    Raises:
        ValueError: The page does not have exactly one such region.
    """
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    region = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    found, count = region.subn(lambda _: f"{begin}\n{text.strip()}\n{end}", page)
    if count != 1:
        message = f"the page has {count} regions {name!r}, expected one between {begin} and {end}"
        raise ValueError(message)
    return found


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def paragraph(text: str) -> str:
    """Return a paragraph in lines of the pages' width."""
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
