"""The timeline in a real browser: its speed with many servers, and the ways that lead out of it."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from discoro_trio._monitor._model import Model
from discoro_trio._monitor._rows import CoroutineRow
from tests.monitor.made_up import NAMES, add_nodes, make_model
from tests.monitor.served import serve

from .driver import browse, chromium
from .test_monitor_pages import within

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.spec("B39")]

# Each picture begins with its background.
COUNT_PICTURES = """
window.pictures = 0;
const fill = CanvasRenderingContext2D.prototype.fillRect;
CanvasRenderingContext2D.prototype.fillRect = function (x, y, ...size) {
  if (x === 0 && y === 0 && this.canvas.closest(".lanes")) window.pictures += 1;
  return fill.call(this, x, y, ...size);
};
"""
MOVE = """(how) => new Promise((done) => {
  const lanes = document.querySelector(".lanes");
  const canvas = lanes.querySelector("canvas");
  const box = canvas.getBoundingClientRect();
  const spot = (x) => ({ clientX: box.left + 400 + x, clientY: box.top + 200, pointerId: 1, bubbles: true });
  canvas.setPointerCapture = () => {};
  const began = performance.now();
  const before = window.pictures;
  let steps = 0;
  if (how === "drag") canvas.dispatchEvent(new PointerEvent("pointerdown", spot(0)));
  const step = () => {
    steps += 1;
    if (how === "drag") canvas.dispatchEvent(new PointerEvent("pointermove", spot(8 * steps % 300 - 150)));
    if (how === "scroll") lanes.scrollTop += 40;
    const seconds = (performance.now() - began) / 1000;
    if (seconds < 1) setTimeout(step, 8);
    else {
      if (how === "drag") canvas.dispatchEvent(new PointerEvent("pointerup", spot(0)));
      done(window.pictures - before);
    }
  };
  setTimeout(step, 8);
})"""


def busy_model(nodes: int, servers: int, seconds: float) -> Model:
    """Make a cluster whose servers have run one short coroutine after the other."""
    model = Model()
    now = time.time()
    chance = random.Random(4)
    ends = []
    for server in add_nodes(model, nodes, servers):
        begin = now - seconds
        while begin < now:
            long = chance.uniform(2, 12)
            ends.append((begin + long, begin, server))
            begin += long
    for number, (end, begin, server) in enumerate(sorted(ends)):
        model.created(CoroutineRow(f"b{number}", chance.choice(NAMES), server, begin))
        if end < now:
            model.finished(f"b{number}", "failed" if chance.random() < 0.01 else "done", end, "ValueError: no")
    return model


def processor_seconds(profile: str) -> float:
    """Give the processor time that all processes of one browser have used."""
    used = 0.0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(profile in argument for argument in process.cmdline()):
                browser = [process, *process.children(recursive=True)]
                used = sum(one.cpu_times().user + one.cpu_times().system for one in browser)
                break
    return used


def cost_of_a_picture(page: Page, profile: str, how: str) -> float:
    """Give the processor time for each picture while the timeline is moved, in seconds; the least of some tries."""
    costs: list[float] = []
    for _ in range(4):
        page.evaluate("document.querySelector('.lanes').scrollTop = 0")
        before = processor_seconds(profile)
        made = page.evaluate(MOVE, how)
        costs.append((processor_seconds(profile) - before) / made)
    return min(costs)


@pytest.mark.parametrize("fold", ["all", "none"])
async def test_2000_servers_are_drawn_30_times_a_second_on_a_fine_screen(fold: str) -> None:
    """Measured by processor time, so that other load on the machine changes nothing."""
    model = busy_model(500, 4, 60)

    def look() -> None:
        with chromium(served.url, pixel_ratio=3) as (context, strict):
            context.add_init_script(COUNT_PICTURES)
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline&fold={fold}")
            assert within(10, lambda: page.evaluate("window.pictures") > 0)
            assert page.locator(".lanes canvas").evaluate("canvas => canvas.height") < 3 * 1000
            assert page.locator(".lanes").evaluate("one => one.scrollHeight") > (12_000 if fold == "all" else 48_000)
            assert cost_of_a_picture(page, strict.profile, "scroll") < 1 / 30
            assert cost_of_a_picture(page, strict.profile, "drag") < 1 / 30

    async with serve(model) as served:
        await browse(look)


async def test_scrolling_fetches_the_coroutines_of_the_nodes_that_come_into_view() -> None:
    model = busy_model(500, 4, 60)
    lit = """() => {
        const canvas = document.querySelector(".lanes canvas");
        const { data } = canvas.getContext("2d").getImageData(300, 60, 800, 300);
        const colours = new Set();
        for (let at = 0; at < data.length; at += 4) colours.add(data[at] << 16 | data[at + 1] << 8 | data[at + 2]);
        return colours.size;
    }"""

    def look() -> None:
        with chromium(served.url) as (context, strict):
            strict.expected.append("willReadFrequently")  # about this test, which reads the canvas
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline")
            page.wait_for_selector(".lanes canvas")
            assert within(10, lambda: page.evaluate(lit) > 20)
            page.evaluate("document.querySelector('.lanes').scrollTop = 9000")
            page.wait_for_url("**first=**")
            assert within(10, lambda: page.evaluate(lit) > 20)

    async with serve(model) as served:
        await browse(look)


async def test_bars_lead_to_their_coroutines_and_nodes_fold() -> None:
    model = Model()
    (server, *_) = add_nodes(model, 2, 2)
    model.created(CoroutineRow("long", NAMES[0], server, time.time() - 3_000, args=("whatever",)))

    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline")
            lanes = page.locator(".lanes")
            canvas = page.locator(".lanes canvas")
            canvas.wait_for()
            assert within(5, lambda: lanes.evaluate("one => one.scrollHeight") > 160)
            unfolded = lanes.evaluate("one => one.scrollHeight")
            canvas.click(position={"x": 60, "y": 38})  # the name of the first node
            assert within(5, lambda: lanes.evaluate("one => one.scrollHeight") < unfolded)
            canvas.click(position={"x": 60, "y": 38})
            assert within(5, lambda: lanes.evaluate("one => one.scrollHeight") == unfolded)
            canvas.hover(position={"x": 600, "y": 62})
            page.wait_for_selector(f".tip >> text={NAMES[0]}")
            canvas.click(position={"x": 600, "y": 62})
            page.wait_for_url("**view=coroutine&key=long**")
            page.get_by_text("'whatever'").wait_for()

    async with serve(model) as served:
        await browse(look)


async def test_the_window_is_exported_as_a_trace_file() -> None:
    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline&span=120")
            with page.expect_download() as download:
                page.get_by_role("link", name="Export").click()
            found = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
            slices = [event for event in found["traceEvents"] if event["ph"] == "X"]
            assert {event["name"] for event in slices} == set(NAMES)
            assert "failed" in {event["args"]["state"] for event in slices}

    async with serve(make_model(time.time(), nodes=3, running=30)) as served:
        await browse(look)
