"""Take the pictures of the monitor for the documentation: every view of a made-up cluster, in light, dark and narrow.

Run it from the root of the project, where Chromium is installed: `python -m docs._scripts.monitor_pictures [FOLDER]`.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.browser.driver import chromium
from tests.monitor.made_up import make_model
from tests.monitor.served import TOKEN, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[1] / "_static" / "monitor"
VIEWS = {
    "cluster": "",
    "node": "?view=node&key=10.0.0.11",
    "server": "?view=server&key=10.0.0.11:51350",
    "coroutines": "?view=coroutines&sort=name",
    "computations": "?view=computations",
    "timeline": "?view=timeline",
    "output": "?view=output",
}
SIZES: dict[str, tuple[int, int, Any]] = {
    "light": (1280, 800, "light"),
    "dark": (1280, 800, "dark"),
    "phone": (360, 740, "light"),
}


class Target:
    """Makes all actions possible, so that their buttons are in the pictures; none is pressed."""

    async def terminate(self) -> None:
        """Do nothing."""

    async def restart_server(self, location: object) -> None:
        """Do nothing."""

    async def suspend_node(self, addr: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def take(url: str, folder: Path) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height, scheme) in SIZES.items():
        with chromium(url, width=width, height=height, scheme=scheme) as (context, _):
            page = context.new_page()
            page.goto(f"{url}#token={TOKEN}")
            page.wait_for_selector("td a")
            for view, address in VIEWS.items():
                page.goto(url + address)
                settle(page)
                page.screenshot(path=folder / f"{view}-{name}.png")


def settle(page: Page) -> None:
    """Wait until the view is there and has drawn its graphs."""
    page.wait_for_selector("main .panel")
    page.wait_for_timeout(400)


async def main(folder: Path) -> None:
    """Serve a cluster and take the pictures."""
    model = make_model(time.time())
    for coroutine in model.running.values():
        coroutine.handle = Target()
    async with serve(model, target=Target()) as served:
        await trio.to_thread.run_sync(partial(take, served.url, folder))


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
