"""The rows of the monitor against a shared scheduler with two nodes on other hosts, and beside it in the client.

The hosts are network namespaces. The browser runs in the client's. Jobs are started in every way.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests._network import open_network
from tests.monitor.served import TOKEN

from .driver import browse, chromium
from .test_monitor_pages import HOSTILE, cells, figure, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from tests._network import Host, Network

pytestmark = [
    pytest.mark.browser,
    pytest.mark.network,
    pytest.mark.slow,
    pytest.mark.spec("S81", "S82", "S86", "S90", "S91", "S92", "S93", "S94", "S95", "S96", "S97", "B25", "B38", "B39"),
]

PROGRAM = """
    import os, sys
    os.environ["DISCORO_SECRET"] = "a secret of these hosts"
    from discoro_trio._cli import run_discoro, run_node
    (run_node if sys.argv[1] == "node" else run_discoro)(sys.argv[2:])
"""
CLIENT = """
    import json, sys, trio
    import discoro_trio as discoro

    class Unspeakable:
        def __str__(self):
            raise ValueError("no text")

    async def divide(a, b):
        await trio.lowlevel.checkpoint()
        return a / b

    async def stay(way, *more):
        print("here is", way)
        await trio.sleep_forever()

    ended = {}

    async def note(way, run):
        try:
            await run()
            ended[way] = "returned"
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            ended[way] = type(error).__name__

    async def mapped(computation):
        async with computation.map(stay, ["map"]) as results:
            async for _ in results:
                pass

    async def nested(computation):
        async with computation.open_nursery() as nursery:
            nursery.start_soon(stay, "nursery", Unspeakable())

    async def main():
        async with (
            discoro.open_endpoint(ip_addr=sys.argv[1], secret="a secret of these hosts"),
            discoro.Computation([divide, stay], name="every way").schedule(servers=2) as computation,
            discoro.open_http_server(computation, token=sys.argv[2]),
            trio.open_nursery() as nursery,
        ):
            for number in range(5):
                nursery.start_soon(note, f"fails {number}", lambda: computation.run_result(divide, number, 0))
            started = await computation.run(stay, "run", sys.argv[3])
            nursery.start_soon(note, "run", started.result)
            nursery.start_soon(note, "run_result", lambda: computation.run_result(stay, "run_result", "x" * 1000))
            nursery.start_soon(note, "map", lambda: mapped(computation))
            nursery.start_soon(note, "nursery", lambda: nested(computation))
            print("started")
            while len(ended) < 9:
                await trio.sleep(0.05)
            print(json.dumps(ended))
            await trio.to_thread.run_sync(sys.stdin.readline)

    trio.run(main)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with open_network() as opened:
        yield opened


@contextmanager
def inside(host: Host) -> Iterator[None]:
    """Move the calling thread, and what it starts, into the namespace of a host; Trio uses the thread again later."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter(f"/run/netns/{host.name}")
        try:
            yield
        finally:
            enter(f"/proc/self/fd/{before}")
    finally:
        os.close(before)


def enter(path: str) -> None:
    """Move the calling thread into a network namespace."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None, use_errno=True).setns(descriptor, 0) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("of", ["scheduler", "client"])
async def test_the_rows_hold_for_jobs_that_are_started_in_every_way(network: Network, of: str) -> None:
    scheduler, alpha, beta, client = network.add_lan().add_hosts(4)
    http = ("--http_port", "8181", "--http_host", scheduler.address, "--http_token", TOKEN)
    async with AsyncExitStack() as stack:
        shared = await stack.enter_async_context(scheduler.running(PROGRAM, "scheduler", *http))
        for host, name in ((alpha, "alpha"), (beta, "beta")):
            await stack.enter_async_context(host.running(PROGRAM, "node", "--cpus", "2", "--name", name))
        program = await stack.enter_async_context(client.running(CLIENT, client.address, TOKEN, HOSTILE))
        while await program.line() != "started":
            pass
        where = scheduler.address if of == "scheduler" else "127.0.0.1"
        nodes = {"alpha": alpha.address, "beta": beta.address}
        await browse(partial(look, f"http://{where}:8181/", client, nodes))
        while not (line := await program.line()).startswith("{"):
            pass
        ended = json.loads(line)
        assert {ended[way] for way in ("run", "run_result", "map")} == {"CoroCancelled"}
        assert ended["nursery"] == "returned", "in a nursery, what others cancel ends silently"
        assert {ended[f"fails {number}"] for number in range(5)} == {"ZeroDivisionError"}
        await program.say("")
        assert shared.process.returncode is None


def look(url: str, client: Host, nodes: dict[str, str]) -> None:
    with inside(client), chromium(url) as (context, strict):
        strict.expected.append("Cross-Origin-Opener-Policy header has been ignored")  # plain http from another host
        page = context.new_page()
        page.goto(f"{url}#token={TOKEN}")
        page.wait_for_selector("td a")
        see_the_cluster(page, nodes)
        see_a_node_and_a_server(page, url)
        see_arguments_failures_and_output(page, url)
        terminate_all(page, url)


def see_the_cluster(page: Page, nodes: dict[str, str]) -> None:
    assert within(30, lambda: figure(page, "Failed") == "5")
    assert within(30, lambda: [figure(page, name) for name in ("Running", "Submitted", "Done")] == ["4", "9", "5"])
    assert within(20, lambda: "5 divide failed" in page.locator("section.verdict").inner_text())
    assert within(10, lambda: cells(page, "Name") == ["alpha", "beta"]), cells(page, "Name")
    assert dict(zip(cells(page, "Name"), addresses(page), strict=True)) == nodes
    assert sum(map(int, cells(page, "Running"))) == 4
    page.get_by_role("button", name="Name").click()
    page.wait_for_url("**sort=name**")
    assert within(10, lambda: cells(page, "Name") == ["alpha", "beta"])


def addresses(page: Page) -> list[str]:
    return [text.rpartition(":")[0] or text for text in cells(page, "Address")]


def see_a_node_and_a_server(page: Page, url: str) -> None:
    page.locator("td a").first.click()
    page.wait_for_url("**view=node**")
    assert within(10, lambda: len(cells(page, "Server")) == 2), page.locator("main").inner_text()
    assert len(cells(page, "Running")) == 2
    page.goto(f"{url}?view=coroutines")
    page.wait_for_selector("td a")
    page.locator('td[data-label="Server"] a').first.click()
    page.wait_for_url("**view=server**")
    assert within(10, lambda: "stay" in cells(page, "Name"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d", cells(page, "Started")[0])


def see_arguments_failures_and_output(page: Page, url: str) -> None:
    page.goto(f"{url}?view=coroutines&sort=name")
    page.wait_for_selector("td a")

    def told() -> dict[str, str]:
        return {text.partition(",")[0]: text for text in cells(page, "Arguments")}

    assert within(20, lambda: set(told()) == {"'run'", "'run_result'", "'map'", "'nursery'"})
    arguments = told()
    assert HOSTILE[:20] in arguments["'run'"]
    assert "owned" not in page.title()
    assert len(arguments["'run_result'"]) < 200
    assert "raised ValueError" in arguments["'nursery'"]
    page.goto(f"{url}?view=failures")
    page.locator("ul.failures summary").click()
    assert "ZeroDivisionError: division by zero" in page.locator("ul.failures pre").inner_text()
    page.goto(f"{url}?view=output")
    assert within(20, lambda: sum("here is" in line for line in page.locator("ol.lines li").all_inner_texts()) == 4)


def terminate_all(page: Page, url: str) -> None:
    page.goto(f"{url}?view=coroutines")
    page.locator('th input[type="checkbox"]').click()
    page.get_by_role("button", name=re.compile("Terminate 4")).click()
    page.get_by_role("button", name="Terminate", exact=True).click()
    page.get_by_role("button", name="Close").wait_for(timeout=40_000)
    assert page.locator("dialog li", has_text="✓ done").count() == 4
    page.get_by_role("button", name="Close").click()
    page.mouse.move(0, 0)  # rows stay while the mouse is over them
    assert within(20, lambda: "No coroutine runs here." in page.locator("main").inner_text())
