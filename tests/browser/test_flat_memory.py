"""Ten minutes under load, with failures and output: no process, and no open page, needs more and more memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from discoro_trio._monitor._model import KEPT_COROUTINES
from tests._ports import free_udp_port
from tests.cli.programs import running
from tests.monitor.served import TOKEN

from .driver import browse, chromium
from .test_monitor_pages import figure, within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.sync_api import Page

pytestmark = [pytest.mark.soak, pytest.mark.spec("B25")]

SECONDS = 600.0
WARM_UP = 1200.0
"""Seconds in which the monitor's list of ended coroutines, the longest of all, is full."""
GROWTH = 1.05
"""By which factor the memory may differ."""
CLIENT = """
import logging, os, sys, trio
import discoro_trio as discoro

os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
os.dup2(1, 2)

async def job(number):
    print("this is", number)
    if number % 10 == 0:
        logging.getLogger("jobs").error("that was %d", number)
        raise ValueError(f"number {number % 1000} is not wanted")
    await trio.sleep(0.001 * (number % 50))

async def main(location):
    async with discoro.Computation([job], name="load").schedule(location) as computation:
        numbers = iter(range(10**9))
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)
                batch = [next(numbers) for _ in range(300)]
                async with computation.map(job, batch, errors="collect") as results:
                    ended = [one async for one in results]
                assert sum(isinstance(one, ValueError) for one in ended) == 30

trio.run(main, sys.argv[1])
"""


def used(processes: Mapping[str, psutil.Process]) -> dict[str, int]:
    """Give the memory of each process and of its descendants that belongs to it alone, in bytes."""
    return {
        name: sum(one.memory_full_info().uss for one in (process, *process.children(recursive=True)))
        for name, process in processes.items()
    }


def heap(page: Page) -> int:
    """Give the memory of a page's objects, in bytes."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    found: Any = session.send("Runtime.getHeapUsage")
    session.detach()
    return int(found["usedSize"])


def watch(url: str, processes: Mapping[str, psutil.Process]) -> list[dict[str, int]]:
    """Leave a page open under load; give what memory everything needs, time after time."""
    found = []
    with chromium(url) as (context, _):
        page, other = context.new_page(), context.new_page()
        page.goto(f"{url}#token={TOKEN}")
        other.goto(f"{url}?view=output")
        assert within(60, lambda: figure(page, "Failed") != "0")
        page.goto(f"{url}?view=coroutines&state=ended")
        assert within(WARM_UP, lambda: page.locator(".tools-row .count").inner_text() == f"{KEPT_COROUTINES:,}")
        page.goto(url)
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            time.sleep(min(30.0, SECONDS / 20))
            figures = {**used(processes), "page": heap(page), "output": heap(other)}
            print(round(time.monotonic() - began), *(f"{k} {v / 2**20:.1f}" for k, v in figures.items()), flush=True)  # noqa: T201 - for people who run it
            found.append(figures)
    return found


async def test_memory_stays_the_same_for_ten_minutes_under_load() -> None:
    common = ("--udp_port", str(free_udp_port()))
    async with running(*common) as scheduler:
        location = await scheduler.location()
        http = ("--http_port", "0", "--http_token", TOKEN)
        async with (
            running("node", *common, "--cpus", "2", "--peer", location) as node,
            running("monitor", location, *http, *common, read="all") as monitor,
        ):
            await node.location()
            url = (await monitor.says("look at")).split()[-1]
            async with running(location, program=("-c", CLIENT)) as client:
                named = {"scheduler": scheduler, "node": node, "monitor": monitor, "client": client}
                processes = {name: psutil.Process(one.process.pid) for name, one in named.items()}
                found = await browse(lambda: watch(url, processes))
    early, late = found[: len(found) // 4], found[-len(found) // 4 :]
    for name in found[0]:
        before, after = (min(one[name] for one in part) for part in (early, late))
        assert after < before * GROWTH + 2**20, f"{name}: {before:,} bytes, then {after:,}"
