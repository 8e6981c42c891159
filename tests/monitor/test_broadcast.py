"""Browsers and their views: shared, at most four times a second, and nobody waits for the slow."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from discoro_trio._monitor._broadcast import LONGEST_QUEUE, Broadcast, Browser
from discoro_trio._monitor._model import Model
from discoro_trio._monitor._query import Query
from discoro_trio._monitor._views import render

from .made_up import add_nodes

if TYPE_CHECKING:
    from trio.testing import MockClock


class NoWay:
    """A way on which nothing goes at once."""

    has_begun = False

    def send_now(self, _message: bytes) -> bool:
        return False


def make(poll_sec: float = 10) -> tuple[Broadcast, Model]:
    model = Model()
    add_nodes(model, 2, 1)
    return Broadcast(model, poll_sec=poll_sec, clock=lambda: 1_000.0), model


async def message(hub: Broadcast, browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await hub.next_message(browser))
    return found


@pytest.mark.spec("S88")
async def test_any_number_of_browsers_see_everything(autojump_clock: MockClock) -> None:
    hub, model = make()
    browsers = [Browser(NoWay()) for _ in range(5)]
    for browser in browsers:
        hub.look(browser, Query())
        assert (await message(hub, browser))["type"] == "full"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        await trio.sleep(0.3)
        model.node("10.0.0.11", name="renamed")
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    told = [[json.loads(one) for one in browser.queue] for browser in browsers]
    assert told[0]
    assert all(one == told[0] for one in told)
    assert told[0][-1]["rows"]["10.0.0.11"] == {"name": "renamed"}
    assert hub.browsers == 5


async def test_a_view_is_made_once_for_all_and_at_most_four_times_a_second(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(model: Model, query: Query, now: float) -> Any:
        made.append(trio.current_time())
        return render(model, query, now)

    monkeypatch.setattr("discoro_trio._monitor._broadcast.render", counted)
    hub, model = make()
    for _ in range(50):
        hub.look(Browser(NoWay()), Query())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        for number in range(400):
            model.node("10.0.0.11", name=str(number))
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert 12 <= len(made) <= 18
    assert min(later - earlier for earlier, later in itertools.pairwise(made)) > 0.24


async def test_a_browser_that_does_not_read_gets_a_full_state_later_and_holds_little(autojump_clock: MockClock) -> None:
    hub, model = make()
    slow, quick = Browser(NoWay()), Browser(NoWay())
    hub.look(slow, Query())
    hub.look(quick, Query())
    await message(hub, slow)
    assert (await message(hub, quick))["seq"] == 1
    for number in range(3 * LONGEST_QUEUE):
        model.node("10.0.0.11", name=str(number))
        hub.flush()
        assert (await message(hub, quick))["type"] == "change"
        assert len(slow.queue) <= LONGEST_QUEUE
    caught_up = await message(hub, slow)
    assert caught_up["type"] == "full"
    assert caught_up["rows"][0]["name"] == str(3 * LONGEST_QUEUE - 1)


@pytest.mark.spec("S83")
async def test_something_is_said_at_least_every_poll_sec(autojump_clock: MockClock) -> None:
    hub, _ = make(poll_sec=2)
    browser = Browser(NoWay())
    hub.look(browser, Query())
    await message(hub, browser)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        heard = []
        with trio.move_on_after(20):
            while True:
                await message(hub, browser)
                heard.append(trio.current_time())
        nursery.cancel_scope.cancel()
    gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
    assert max(gaps) <= 2.2


@pytest.mark.spec("B39")
async def test_a_view_that_does_not_change_says_every_second_as_of_when_that_is(autojump_clock: MockClock) -> None:
    hub, model = make(poll_sec=10)
    browser = Browser(NoWay())
    model.as_of = 1.0
    hub.look(browser, Query(view="failures"))
    assert (await message(hub, browser))["as_of"] == 1.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        for as_of in (2.0, 3.0):
            model.as_of = as_of
            model.changed()
            with trio.fail_after(2.5):
                beat = await message(hub, browser)
            assert (beat["type"], beat["as_of"]) == ("beat", as_of)
        nursery.cancel_scope.cancel()


@pytest.mark.spec("S83")
@pytest.mark.parametrize(("every", "least", "most"), [(0.25, 0.2, 0.4), (5.0, 4.9, 5.2)])
async def test_changes_are_pushed_as_often_as_the_browser_wants_them(
    every: float, least: float, most: float, autojump_clock: MockClock
) -> None:
    hub, model = make()
    browser = Browser(NoWay())
    hub.look(browser, Query(every=every))
    await message(hub, browser)
    heard: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)

        async def change() -> None:
            while True:
                model.node("10.0.0.11", name=str(trio.current_time()))
                await trio.sleep(0.01)

        nursery.start_soon(change)
        while len(heard) < 5:
            assert (await message(hub, browser))["type"] == "change"
            heard.append(trio.current_time())
        nursery.cancel_scope.cancel()
    gaps = [later - earlier for earlier, later in itertools.pairwise(heard)]
    assert least <= min(gaps) <= max(gaps) <= most


async def test_a_view_that_nobody_looks_at_is_forgotten() -> None:
    hub, _ = make()
    browser = Browser(NoWay())
    hub.look(browser, Query())
    hub.look(browser, Query(view="output"))
    assert list(hub._shown) == [Query(view="output")]
    hub.leave(browser)
    assert not hub._shown
