"""Take the screenshots of the monitor for the documentation: every view of a made-up cluster, light, dark and narrow.

Chromium must be installed. Run it from the root of the project: `python -m docs._scripts.monitor_pictures [FOLDER]`.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from discoro_trio._monitor._rows import SAMPLE_SECONDS, CoroutineRow
from tests.browser.driver import chromium
from tests.monitor.made_up import NAMES, make_model
from tests.monitor.served import TOKEN, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from discoro_trio._monitor._model import Model

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
PAUSE = 0.03
"""The seconds between the ends of two coroutines."""


class Target:
    """Offers all actions, so that their buttons are in the screenshots; none is used."""

    async def terminate(self) -> None:
        """Do nothing."""

    async def restart_server(self, location: object) -> None:
        """Do nothing."""

    async def suspend_node(self, addr: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


def take(url: str, folder: Path, size: str) -> None:
    """Take the screenshots of one size."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height, scheme = SIZES[size]
    with chromium(url, width=width, height=height, scheme=scheme) as (context, _):
        page = context.new_page()
        page.goto(f"{url}#token={TOKEN}")
        page.wait_for_selector("td a")
        for view, address in VIEWS.items():
            page.goto(url + address)
            settle(page)
            page.screenshot(path=folder / f"{view}-{size}.png")


def settle(page: Page) -> None:
    """Wait until the view is loaded and has drawn its graphs."""
    page.wait_for_selector("main .panel")
    page.wait_for_timeout(400)


async def work_on(model: Model) -> None:
    """Continue the made-up work: in turn, each server ends a short coroutine and begins another one."""
    servers = list(model.servers)
    for number, name, server in zip(count(), cycle(NAMES[:5]), cycle(servers), strict=False):
        now = time.time()
        model.finished(f"short{number - len(servers)}", "done", now)
        model.created(CoroutineRow(f"short{number}", name, server, now, args=(number,), handle=Target()))
        await trio.sleep(PAUSE)


async def main(folder: Path) -> None:
    """Serve a cluster and take the screenshots."""
    for size in SIZES:
        model = make_model(time.time())
        for coroutine in model.running.values():
            coroutine.handle = Target()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work_on, model)
            await trio.sleep(SAMPLE_SECONDS)  # so that the first sample covers as long a time as the others
            async with serve(model, target=Target()) as served:
                await trio.to_thread.run_sync(partial(take, served.url, folder, size))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
