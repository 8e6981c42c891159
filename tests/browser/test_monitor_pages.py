"""The monitor in a real browser."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import Location
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._rows import CoroutineRow
from discoro_trio.testing import open_fault_proxy
from tests.monitor.made_up import NAMES, add_nodes, coroutines, make_model
from tests.monitor.served import TOKEN, Served, serve

from .driver import browse, chromium, serious_findings, sideways

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from discoro_trio.testing import FaultProxy

pytestmark = pytest.mark.browser

VIEWS = {
    "cluster": "",
    "node": "?view=node&key=10.0.0.11",
    "server": "?view=server&key=10.0.0.11:51350",
    "coroutines": "?view=coroutines",
    "ended": "?view=coroutines&state=ended",
    "computations": "?view=computations",
    "timeline": "?view=timeline",
    "timeline as a table": "?view=timeline&show=table",
    "output": "?view=output",
    "failures": "?view=failures",
    "tree": "?view=tree",
    "function": f"?view=function&key={NAMES[0]}",
    "coroutine": "?view=coroutine&key=c000001",
    "ended coroutine": "?view=coroutine&key=e000001",
    "blocked server": "?view=server&key=10.0.0.22:51353",
}
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Tell whether something becomes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.02)
    return False


def cells(page: Page, label: str) -> list[str]:
    """Give what stands in one column."""
    return [text.strip() for text in page.locator(f'td[data-label="{label}"]').all_inner_texts()]


def figure(page: Page, name: str) -> str:
    """Give one of the figures at the top."""
    return page.locator(f'dl.stats div:has(dt:text-is("{name}")) dd').inner_text()


# --- what all views must hold


@pytest.mark.spec("S86", "S90", "B25")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
async def test_every_view_is_accessible_fits_and_has_no_errors(width: int, scheme: str) -> None:
    def look() -> None:
        with chromium(served.url, width=width, scheme=scheme) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}#token={TOKEN}")
            page.wait_for_selector("td a")
            for name, address in VIEWS.items():
                page.goto(served.url + address)
                page.wait_for_selector("main .panel")
                assert sideways(page) == 0, name
                assert serious_findings(page) == [], name

    async with serve(make_model(time.time())) as served:
        await browse(look)


# --- seeing


@pytest.mark.spec("S88")
async def test_two_browsers_agree_within_a_second() -> None:
    model = make_model(time.time(), nodes=3, running=20)

    def add() -> None:
        for number in range(7):
            model.created(CoroutineRow(f"new{number}", "new", "10.0.0.11:51350", time.time()))

    def look() -> None:
        with chromium(served.url) as (context, _):
            pages = [context.new_page(), context.new_page()]
            for page in pages:
                page.goto(served.url)
                page.wait_for_selector("td a")
            before = int(figure(pages[0], "Running"))
            trio.from_thread.run_sync(add)
            expected = str(before + 7)
            assert within(1.0, lambda: [figure(page, "Running") for page in pages] == [expected, expected])

    async with serve(model) as served:
        await browse(look)


@pytest.mark.spec("S93")
async def test_a_thousand_nodes_and_100000_coroutines_can_be_sorted_filtered_and_paged() -> None:
    model = Model()
    servers = add_nodes(model, 1_000, 2)
    for coroutine in coroutines(servers, 100_000, time.time()):
        model.created(coroutine)

    def nodes(page: Page) -> None:
        page.goto(served.url)
        page.wait_for_selector("td a")
        page.get_by_role("button", name="CPU").click()
        page.wait_for_url("**sort=-cpu**")
        assert within(3, lambda: cells(page, "CPU")[0] == "99 %")
        page.get_by_role("button", name="Next page").click()
        assert within(3, lambda: "51 \u2013 100 of 1,000" in page.locator(".pager").inner_text())
        page.get_by_role("searchbox").fill("node77")
        assert within(3, lambda: len(cells(page, "Name")) == 11)
        assert "text=node77" in page.url
        page.reload()
        assert within(3, lambda: len(cells(page, "Name")) == 11)

    def all_coroutines(page: Page) -> None:
        page.goto(f"{served.url}?view=coroutines&sort=name&page=2000")
        page.wait_for_selector("td a")
        assert "99,951 \u2013 100,000 of 100,000" in page.locator(".pager").inner_text()
        assert cells(page, "Name")[-1] == "train_step"
        page.get_by_role("searchbox").fill("render")
        assert within(5, lambda: set(cells(page, "Name")) == {"render_frame"})

    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            nodes(page)
            all_coroutines(page)

    async with serve(model) as served:
        await browse(look)


@pytest.mark.spec("S90", "S92", "S94")
async def test_links_lead_from_the_cluster_to_a_node_to_a_server_and_back() -> None:
    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(served.url)
            page.get_by_role("link", name="10.0.0.12").click()
            page.get_by_role("link", name="10.0.0.12:51351").click()
            assert page.get_by_role("heading", name="10.0.0.12:51351").is_visible()
            assert page.get_by_role("heading", name="Coroutines").is_visible()
            page.go_back()
            page.wait_for_selector('h1:text-is("10.0.0.12")')
            page.go_back()
            page.wait_for_selector('dt:text-is("Submitted")')

    async with serve(make_model(time.time(), nodes=3, running=30)) as served:
        await browse(look)


@pytest.mark.fault("F25")
@pytest.mark.spec("S96")
async def test_hostile_names_are_shown_as_text() -> None:
    model = make_model(time.time(), nodes=2, running=5)
    now = time.time()
    model.created(CoroutineRow("h", HOSTILE, "10.0.0.11:51350", now, args=(HOSTILE,)))
    model.node("10.0.0.11", name=HOSTILE, platform=HOSTILE)
    model.output(now, "10.0.0.11:51350", "print", HOSTILE)
    model.computation("h", name=HOSTILE, owner=HOSTILE, state="running")

    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            for name, address in VIEWS.items():
                page.goto(served.url + address)
                page.wait_for_selector("main .panel")
                assert "owned" not in page.title(), name
                assert page.locator("main img, main script").count() == 0, name
            page.goto(f"{served.url}?view=coroutines")
            page.wait_for_selector("td a")
            assert HOSTILE in cells(page, "Name")

    async with serve(model) as served:
        await browse(look)


@pytest.mark.spec("B25")
async def test_the_timeline_zooms_moves_and_is_a_table_too() -> None:
    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline")
            lanes = page.locator(".timeline canvas")
            lanes.focus()
            page.keyboard.press("+")
            page.wait_for_url("**span=42**")
            page.keyboard.press("ArrowLeft")
            page.wait_for_url("**end=**")
            page.get_by_role("button", name="Zoom out").click()
            page.wait_for_url("**span=84**")
            page.keyboard.press("Tab")
            page.get_by_role("button", name="Live").click()
            assert within(2, lambda: "end=" not in page.url)
            page.get_by_role("button", name="Table").click()
            page.wait_for_selector("td a")
            assert cells(page, "Began")

    async with serve(make_model(time.time(), nodes=3, running=30)) as served:
        await browse(look)


@pytest.mark.spec("B25")
async def test_functions_have_colours_of_their_own_in_the_timeline() -> None:
    pixel = "canvas => canvas.getContext('2d').getImageData(5, 5, 1, 1).data.join()"

    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(f"{served.url}?view=timeline")
            page.wait_for_selector(".legend span")
            swatches = page.locator(".legend canvas").all()
            assert len(swatches) == len(NAMES)
            assert len({swatch.evaluate(pixel) for swatch in swatches}) == len(NAMES)

    async with serve(make_model(time.time(), nodes=3, running=100)) as served:
        await browse(look)


# --- by keyboard


async def test_tables_are_sorted_by_keyboard_and_say_so() -> None:
    def look() -> None:
        with chromium(served.url) as (context, _):
            page = context.new_page()
            page.goto(served.url)
            page.wait_for_selector("td a")
            page.get_by_role("button", name="Name").focus()
            page.keyboard.press("Enter")
            page.wait_for_url("**sort=name**")
            assert page.locator('th[aria-sort="ascending"]').inner_text().strip().startswith("Name")
            page.keyboard.press("Enter")
            page.wait_for_url("**sort=-name**")

    async with serve(make_model(time.time(), nodes=3, running=30)) as served:
        await browse(look)


# --- acting


@pytest.mark.spec("B14")
async def test_without_the_token_nothing_can_be_selected_and_signing_in_changes_that() -> None:
    def look() -> None:
        with chromium(served.url) as (context, strict):
            strict.expected.append("401")
            page = context.new_page()
            page.goto(f"{served.url}?view=coroutines")
            page.wait_for_selector("td a")
            assert page.get_by_role("checkbox").count() == 0
            page.get_by_role("button", name="Sign in").click()
            page.get_by_label("Token").fill("not the token")
            page.locator("dialog").get_by_role("button", name="Sign in").click()
            page.wait_for_selector("text=that is not the monitor's token")
            page.get_by_label("Token").fill(TOKEN)
            page.locator("dialog").get_by_role("button", name="Sign in").click()
            page.wait_for_selector('input[type="checkbox"]')
            assert page.locator("dialog").count() == 0

    async with serve(make_model(time.time(), nodes=3, running=30)) as served:
        await browse(look)


async def wait_for_ever(name: str) -> None:
    """Be terminated."""
    await trio.sleep_forever()


@pytest.mark.spec("S82", "S89", "S95", "S97")
async def test_a_coroutine_terminated_in_the_browser_ends_at_the_client_as_cancelled() -> None:
    def look(url: str) -> None:
        with chromium(url) as (context, _):
            page = context.new_page()
            page.goto(f"{url}#token={TOKEN}")
            page.wait_for_selector("td a")
            assert "token" not in page.url
            page.get_by_role("link", name="Coroutines").click()
            page.get_by_label("Select wait_for_ever").first.check()
            page.get_by_role("button", name="Terminate 1").click()
            dialog = page.locator("dialog")
            assert "wait_for_ever" in dialog.inner_text()
            dialog.get_by_role("button", name="Terminate").click()
            page.wait_for_selector("dialog >> text=done")
            dialog.get_by_role("button", name="Close").click()
            assert within(2, lambda: len(cells(page, "Name")) == 1)
            assert cells(page, "Arguments") == ["'first'"]

    async with (
        discoro.open_cluster(servers=1),
        discoro.Computation([wait_for_ever]).schedule() as computation,
        discoro.open_http_server(computation, port=0, token=TOKEN) as server,
    ):
        first = await computation.run(wait_for_ever, "first")
        second = await computation.run(wait_for_ever, "second")
        await browse(partial(look, server.url))
        with pytest.raises(discoro.CoroCancelled):
            await second.result()
        first.cancel()


# --- connections that end


@pytest.mark.spec("S83")
async def test_a_page_says_that_the_connection_is_lost_and_connects_again_by_itself() -> None:
    model = make_model(time.time(), nodes=3, running=30)
    stack = AsyncExitStack()
    first = await stack.enter_async_context(serve(model))

    async def stop() -> None:
        await stack.aclose()

    async def start() -> Served:
        return await stack.enter_async_context(serve(model, port=first.port))

    def look() -> None:
        with chromium(first.url) as (context, strict):
            strict.expected += ["ERR_CONNECTION_REFUSED", "WebSocket connection"]
            page = context.new_page()
            page.goto(first.url)
            page.wait_for_selector("td a")
            trio.from_thread.run(stop)
            page.wait_for_selector("text=The connection to the monitor is lost")
            assert cells(page, "Name")
            trio.from_thread.run_sync(lambda: model.node("10.0.0.11", name="after"))
            trio.from_thread.run(start)
            assert within(10, lambda: "after" in cells(page, "Name"))
            assert page.locator("text=The connection to the monitor is lost").count() == 0

    async with stack:
        await browse(look)


@pytest.mark.spec("S83")
@pytest.mark.parametrize("how", ["reset", "silent"])
async def test_a_page_whose_connection_is_cut_says_so_and_is_current_after_it_is_healed(how: str) -> None:
    """A silent cut is found by the silence: the page waits for what was promised every `poll_sec`, and 5 s more."""
    model = make_model(time.time(), nodes=3, running=30)

    def look(url: str, proxy: FaultProxy) -> None:
        with chromium(url) as (context, strict):
            strict.expected += ["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "WebSocket connection"]
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector("td a")
            trio.from_thread.run_sync(proxy.cut if how == "reset" else proxy.stall)
            trio.from_thread.run_sync(lambda: model.node("10.0.0.11", name="meanwhile"))
            page.wait_for_selector("text=The connection to the monitor is lost")
            assert cells(page, "Name")[0] == "node01"
            page.wait_for_timeout(3_000)  # long enough for attempts that fail
            trio.from_thread.run_sync(proxy.heal)
            assert within(12, lambda: "meanwhile" in cells(page, "Name"))
            assert page.locator("text=The connection to the monitor is lost").count() == 0
            trio.from_thread.run_sync(lambda: model.node("10.0.0.12", name="afterwards"))
            assert within(2, lambda: "afterwards" in cells(page, "Name"))
            assert served.hub.browsers <= 2  # of the old connection the monitor may not know yet that it is gone

    async with serve(model, poll_sec=1) as served, open_fault_proxy(Location("127.0.0.1", served.port)) as proxy:
        await browse(partial(look, f"http://{proxy.location}/", proxy))


@pytest.mark.spec("S83")
async def test_after_half_a_minute_without_a_network_a_page_has_said_so_and_has_the_right_state_again() -> None:
    model = make_model(time.time(), nodes=3, running=30)
    cut_seconds = 30.0

    def change() -> None:
        model.node("10.0.0.11", name="meanwhile")
        model.node_left("10.0.0.13", "disconnected")
        for number in range(7):
            model.created(CoroutineRow(f"new{number}", "new", "10.0.0.12:51350", time.time()))

    def look(url: str, proxy: FaultProxy) -> None:
        with chromium(url) as (context, strict):
            strict.expected += ["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "WebSocket connection"]
            page = context.new_page()
            page.goto(url)
            page.wait_for_selector("td a")
            running = int(figure(page, "Running"))
            trio.from_thread.run_sync(proxy.stall)
            began = time.monotonic()
            trio.from_thread.run_sync(change)
            page.wait_for_selector("text=The connection to the monitor is lost", timeout=1000 * cut_seconds)
            page.wait_for_timeout(1000 * (began + cut_seconds - time.monotonic()))
            assert cells(page, "Name")[0] == "node01", "what was last known stays in sight"
            assert int(figure(page, "Running")) == running
            assert page.locator("text=The connection to the monitor is lost").count() == 1
            trio.from_thread.run_sync(proxy.heal)
            assert within(20, lambda: "meanwhile" in cells(page, "Name"))
            expected = trio.from_thread.run_sync(lambda: str(model.totals.counts.running))
            assert within(2, lambda: figure(page, "Running") == expected)
            assert expected != str(running)
            assert page.locator("text=The connection to the monitor is lost").count() == 0

    async with serve(model) as served, open_fault_proxy(Location("127.0.0.1", served.port)) as proxy:
        await browse(partial(look, f"http://{proxy.location}/", proxy))
