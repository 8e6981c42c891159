"""What the pages of a shared scheduler show: real programs, with jobs that are started in every way."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, running
from tests.monitor.served import TOKEN

from .driver import browse, chromium
from .test_monitor_pages import cells, figure, within

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.program, pytest.mark.spec("B38", "B39", "S91", "S95", "S97")]


async def divide(a: int, b: int) -> float:
    await trio.lowlevel.checkpoint()
    return a / b


async def stay(name: str) -> None:
    print("here is", name)  # noqa: T201 - it is to be seen on the page
    await trio.sleep_forever()


async def run_all(computation: discoro.Computation, nursery: trio.Nursery) -> None:
    """Start jobs that fail, and jobs that stay, in every way."""

    async def quietly(function: Any, *args: Any) -> None:
        try:
            await computation.run_result(function, *args)
        except (discoro.CoroCancelled, ZeroDivisionError):
            return

    async def mapped() -> None:
        try:
            async with computation.map(stay, ["map"]) as results:
                async for _ in results:
                    pass
        except* discoro.CoroCancelled:
            pass

    async def nested() -> None:
        async with computation.open_nursery() as inner:
            inner.start_soon(stay, "nursery")

    for number in range(5):
        nursery.start_soon(quietly, divide, number, 0)
    await computation.run(stay, "run")
    nursery.start_soon(quietly, stay, "run_result")
    nursery.start_soon(mapped)
    nursery.start_soon(nested)


def look(url: str) -> None:
    with chromium(url) as (context, _):
        page = context.new_page()
        page.goto(f"{url}#token={TOKEN}")
        page.wait_for_selector("td a")
        assert within(20, lambda: figure(page, "Failed") == "5")
        assert "5 divide failed" in page.locator("section.verdict").inner_text()
        look_at_the_failures(page)
        page.goto(f"{url}?view=coroutines")
        ways = ["'map'", "'nursery'", "'run'", "'run_result'"]
        assert within(20, lambda: sorted(cells(page, "Arguments")) == ways)
        page.goto(f"{url}?view=output")
        assert within(20, lambda: page.locator("ol.lines li").count() == len(ways))
        look_at_one(page, url)
        terminate_all(page, url)


def look_at_the_failures(page: Page) -> None:
    page.get_by_role("link", name=re.compile("5 divide failed")).click()
    page.locator("details summary").click()
    assert "return a / b" in page.locator("pre.trace").inner_text()


def look_at_one(page: Page, url: str) -> None:
    page.goto(f"{url}?view=coroutines")
    page.get_by_role("link", name="stay").first.click()
    assert within(20, lambda: "in stay" in page.locator("main").inner_text())
    assert within(20, lambda: "here is" in page.locator("ol.lines").inner_text())


def terminate_all(page: Page, url: str) -> None:
    page.goto(f"{url}?view=coroutines")
    page.wait_for_selector('th input[type="checkbox"]')
    page.locator('th input[type="checkbox"]').click()
    page.get_by_role("button", name=re.compile("Terminate 4")).click()
    page.get_by_role("button", name="Terminate", exact=True).click()
    page.get_by_role("button", name="Close").wait_for(timeout=30_000)
    assert page.locator("dialog li", has_text="✓ done").count() == 4
    page.get_by_role("button", name="Close").click()
    assert within(20, lambda: figure_of_running(url, page) == "0")


def figure_of_running(url: str, page: Page) -> str:
    page.goto(url)
    page.wait_for_selector("td a")
    return figure(page, "Running")


async def test_a_monitor_of_a_shared_scheduler_shows_failures_arguments_output_and_ends_everything() -> None:
    port = free_udp_port()
    http = ("--http_port", "0", "--http_token", TOKEN)
    async with running("--udp_port", str(port), *http, program=("-m", "discoro_trio")) as scheduler:
        location = await scheduler.location()
        url = (await scheduler.says("the monitor is at")).split()[-1]
        node = ("--udp_port", str(port), "--cpus", "2", "--peer", location)
        async with (
            running("node", *node, "--name", "alpha") as alpha,
            running("node", *node, "--name", "beta") as beta,
        ):
            await alpha.location()
            await beta.location()
            async with discoro.open_endpoint(ip_addr="127.0.0.1", secret=SECRET, udp_port=port):
                computation = discoro.Computation([divide, stay], name="truth")
                async with computation.schedule(location), trio.open_nursery() as nursery:
                    await run_all(computation, nursery)
                    await browse(lambda: look(url))
                    nursery.cancel_scope.cancel()
                began = time.monotonic()
                await browse(lambda: nothing_runs(url))
                assert time.monotonic() - began < 30


def nothing_runs(url: str) -> None:
    with chromium(url) as (context, _):
        page = context.new_page()
        page.goto(f"{url}?view=coroutines")
        assert within(20, lambda: "No coroutine runs here." in page.locator("main").inner_text())
