"""The displays of a notebook, rendered as a notebook does: in a narrow cell, light and dark, without scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import discoro_trio as discoro

from .driver import chromium, serious_findings, sideways

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.spec("B35")]

NOTEBOOK = """<!doctype html><html lang="en"><head><title>A notebook</title>
<meta http-equiv="Content-Security-Policy" content="script-src 'none'">
<style>
  body {{ margin: 8px; font: 14px system-ui; background: {back}; color: {front}; color-scheme: {scheme}; }}
  table {{ border-collapse: collapse; font-size: 12px; table-layout: fixed; margin: 0 auto 1em; }}
  td, th {{ vertical-align: middle; padding: 0.5em; white-space: normal; text-align: right; }}
</style></head><body><main><h1>A notebook</h1>{shown}</main></body></html>"""
"""A page with the styles that JupyterLab gives to the HTML of an output."""
COLOURS = {"light": ("white", "black"), "dark": ("#111", "#ddd")}


def word(length: int) -> str:
    return "x" * length


def fail(text: str) -> None:
    raise ValueError(text)


def displays() -> dict[str, str]:
    """Give the HTML of each kind of display."""
    with discoro.connect(servers=1) as cluster:
        futures = {
            "short": cluster.submit(abs, -1),
            "long": cluster.submit(word, 1000),
            "failed": cluster.submit(fail, "<script>document.title = 'owned'</script> " + "word " * 100),
        }
        for future in futures.values():
            future.exception()
        shown = {name: one._repr_html_() for name, one in futures.items()}
        shown |= {"cluster": cluster._repr_html_(), "computation": cluster.computation._repr_html_()}
    return {**shown, "closed": cluster._repr_html_()}


CUT = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.innerText)"
LEFT = "all => Math.max(...all.map((one) => one.getBoundingClientRect().left))"


def look(page: Page) -> None:
    assert sideways(page) == 0
    assert page.locator("td, th").evaluate_all(CUT) == []
    assert page.locator("th").evaluate_all(LEFT) < 20, "the tables stand below their titles"
    assert page.locator("progress").evaluate_all("all => all.map((one) => one.value / one.max)") == [1, 1, 1]
    assert page.get_by_text("3/3 jobs, 1 failed").count() == 3
    assert page.title() == "A notebook"
    assert serious_findings(page) == []


def test_displays_fit_into_a_narrow_cell_and_show_counts_and_failures() -> None:
    shown = "".join(displays().values())
    with chromium("about:blank", width=400) as (context, _):
        for scheme, (back, front) in COLOURS.items():
            page = context.new_page()
            page.set_content(NOTEBOOK.format(shown=shown, back=back, front=front, scheme=scheme))
            look(page)
