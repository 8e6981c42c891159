"""Take the screenshots of the monitor for the documentation, of a real cluster with jobs, failures and a hang.

Chromium must be installed. Run it from the root of the project: `python -m docs._scripts.monitor_pictures [FOLDER]`.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import discoro_trio as discoro
from tests.browser.driver import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[1] / "_static" / "monitor"
TOKEN = "a-token-for-pictures"  # noqa: S105 - the cluster ends with this program
SIZES: dict[str, tuple[int, int, Any]] = {
    "light": (1400, 860, "light"),
    "dark": (1400, 860, "dark"),
    "phone": (390, 760, "light"),
}
WARM_UP = 45.0
"""Seconds of work before the first screenshot, so that graphs and the timeline have something to show."""


async def simulate(step: int, seed: float) -> float:
    """Compute for a while, and report progress."""
    steps = 20 + step % 30
    coro = discoro.current_coro()
    for done in range(steps):
        coro.report(done, total=steps, text=f"sweep {step}")
        await trio.sleep(0.1 * (1 + seed))
    print(f"step {step}: residual {seed / (step + 1):.3e}")  # noqa: T201 - it is to be seen in the monitor
    return seed


async def fetch_page(number: int) -> int:
    """Do something short that sometimes fails."""
    await trio.sleep(0.2 + number % 5 / 4)
    if number % 17 == 0:
        message = f"page {number} has no title"
        raise ValueError(message)
    return number


def invert(size: int) -> int:
    """Compute in a thread."""
    time.sleep(0.5 + size % 3)
    return size


async def parse_all() -> None:
    """Block the thread of a server, as code does that forgets to be async."""
    time.sleep(600)  # noqa: ASYNC251 - the hang


for job in (simulate, fetch_page, invert, parse_all):  # tracebacks show no path of this machine
    job.__code__ = job.__code__.replace(co_filename="/home/ada/climate.py")


async def keep_working(computation: discoro.Computation) -> None:
    """Start jobs of all kinds, some of which fail."""

    async def one_after_the_other(fn: Any, *more: Any) -> None:
        for number in range(1, 10_000):
            try:
                await computation.run_result(fn, number, *more)
            except ValueError:
                continue

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one_after_the_other, simulate, 0.1 * number)
            nursery.start_soon(one_after_the_other, fetch_page)
        nursery.start_soon(one_after_the_other, invert)


async def wait_in_the_queue(scheduler: discoro.Scheduler) -> None:
    """Be the second computation."""
    async with discoro.Computation([invert], name="nightly render").schedule(scheduler):
        await trio.sleep_forever()


def take(url: str, folder: Path, size: str) -> None:
    """Take the screenshots of one size."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height, scheme = SIZES[size]
    with chromium(url, width=width, height=height, scheme=scheme) as (context, _):
        page = context.new_page()
        page.goto(f"{url}#token={TOKEN}")
        page.wait_for_selector("td a")
        for view, address in addresses(page, url).items():
            page.goto(address)
            settle(page)
            if view in {"failures", "function"}:
                page.locator("ul.failures summary").first.click()
            page.wait_for_timeout(700)
            page.screenshot(path=folder / f"{view}-{size}.png")


def addresses(page: Page, url: str) -> dict[str, str]:
    """Return the address of each view; those of one thing are found by links."""
    page.goto(url)
    page.wait_for_selector("td a")
    node = page.locator('td[data-label="Address"] a').first.get_attribute("href")
    page.goto(f"{url}?view=coroutines&text=simulate")
    page.wait_for_selector("td a")
    server = page.locator('td[data-label="Server"] a').first.get_attribute("href")
    coroutine = page.locator('td[data-label="Name"] a').first.get_attribute("href")
    views = ("coroutines", "computations", "timeline", "output", "failures")  # the tree shows paths of this machine
    return {
        "cluster": url,
        "node": f"{url.rstrip('/')}{node}",
        "server": f"{url.rstrip('/')}{server}",
        "coroutine": f"{url.rstrip('/')}{coroutine}",
        "function": f"{url}?view=function&key=fetch_page",
        **{view: f"{url}?view={view}" for view in views},
    }


def settle(page: Page) -> None:
    """Wait until the view is loaded and has drawn its graphs."""
    page.wait_for_selector("main .panel")
    page.wait_for_timeout(1_200)


async def main(folder: Path) -> None:
    """Run a cluster and take the screenshots."""
    async with (
        discoro.open_cluster(servers=6) as scheduler,
        discoro.open_http_server(scheduler, port=0, token=TOKEN) as monitor,
        trio.open_nursery() as nursery,
        discoro.Computation(
            [simulate, fetch_page, invert, parse_all], name="climate ensemble", forward_output=False
        ).schedule() as computation,
    ):
        nursery.start_soon(keep_working, computation)
        nursery.start_soon(wait_in_the_queue, scheduler)
        await trio.sleep(WARM_UP)
        await computation.run(parse_all)
        await trio.sleep(12)
        for size in SIZES:
            await trio.to_thread.run_sync(partial(take, monitor.url, folder, size))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
