"""Every page at every usual width, light and dark: nothing is cut, nothing overflows, and axe has no findings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from discoro_trio._monitor._rows import CoroutineRow
from tests.monitor.made_up import make_model
from tests.monitor.served import TOKEN, serve

from .driver import browse, chromium, findings, sideways
from .test_monitor_pages import VIEWS

if TYPE_CHECKING:
    from discoro_trio._monitor._model import Model

pytestmark = [pytest.mark.browser, pytest.mark.spec("S86", "B39")]

WIDTHS = (320, 390, 768, 1024, 1400, 2560)
# Text that does not fit may end with an ellipsis in the cell of a table, and code may be scrolled; nothing else.
CUT = """() => {
  const hidden = ".unseen, .skip, thead, noscript";
  const seen = (one) =>
    one.getClientRects().length && getComputedStyle(one).visibility !== "hidden" && !one.closest(hidden);
  const wide = document.documentElement.clientWidth;
  const found = [];
  const add = (what, by, one) =>
    found.push(`${what} by ${Math.round(by)}: ${one.tagName}.${one.className} ${(one.innerText ?? "").slice(0, 40)}`);
  for (const one of document.querySelectorAll("body *")) {
    if (!seen(one)) continue;
    const style = getComputedStyle(one);
    const over = one.scrollWidth - one.clientWidth;
    const hides = ["hidden", "clip"].includes(style.overflowX) && style.textOverflow !== "ellipsis";
    const scrolls = ["auto", "scroll"].includes(style.overflowX) && !one.matches("pre, ol.lines");
    if (over > 1 && scrolls) add("must be scrolled", over, one);
    if (over > 1 && hides) add("cut", over, one);
    const high = one.scrollHeight - one.clientHeight;
    if (one.matches("td, .cell") && high > 4 && style.overflowY === "hidden") add("cut in height", high, one);
    const right = one.getBoundingClientRect().right;
    const cell = one.matches("button, select, input") ? one.closest(".cell") : null;
    if (cell && right > cell.getBoundingClientRect().right + 1) add("cut in its cell", 1, one);
    const within = one.parentElement.closest("pre, ol.lines, svg, .tip, .cell");
    if (right > wide + 1 && !within) add("outside", right - wide, one);
  }
  return [...new Set(found)].slice(0, 8);
}"""


def model_with_long_names(now: float) -> Model:
    """Make a cluster with large numbers and long names."""
    model = make_model(now)
    model.node("10.0.0.11", name="a-node-with-a-rather-long-name.example.org")
    why = "place 3 in the queue, behind a computation with quite a long name of ada@workstation-17 " + "x" * 60
    model.computation(
        "long", name="a computation with quite a long name " * 2, owner="ada@workstation-17 " + "x" * 60, why=why
    )
    name = "a_function_whose_name_is_longer_than_most_of_them_are"
    model.created(CoroutineRow("long", name, "10.0.0.11:51350", now, args=("argument " * 30,)))
    model.progress("long", 3, 7, "a text of its own about what it does")
    model.totals.counts.add(12_345_678, 12_000_000, 100_000)
    for node in model.nodes.values():
        node.counts.add(2_345_678, 2_000_000, 99_999)
    return model


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", list(VIEWS))
async def test_no_page_is_cut_at_any_width(view: str, scheme: str) -> None:
    faults: list[str] = []

    def look() -> None:
        with chromium(served.url, width=1400, scheme=scheme) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}#token={TOKEN}")
            page.wait_for_selector("td a")
            page.goto(served.url + VIEWS[view])
            page.wait_for_selector("main .panel")
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 800})
                page.wait_for_timeout(120)
                faults.extend(f"{width}: {fault}" for fault in page.evaluate(CUT))
                if sideways(page):
                    faults.append(f"{width}: the page is {sideways(page)} pixels too wide")
                if width in {320, 1400}:
                    faults.extend(f"{width}: {finding}" for finding in findings(page))

    async with serve(model_with_long_names(time.time()), target=object()) as served:  # with the buttons of all actions
        await browse(look)
    assert not faults, "\n".join(faults)
