"""How a node or scheduler keeps links to processes that it has discovered: which addresses it tries."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from discoro_trio import Location, PeerDisconnected, SchedulerNotFound
from discoro_trio._cluster._presence import Presence, find_scheduler
from discoro_trio._link import Discovery, Services
from discoro_trio._link.discovery import _discovery
from discoro_trio._wire import Credential, Found, ProcessEnded, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

PEER = b"p" * 16
FIRST, SECOND = Location("10.0.0.1", 5), Location("10.1.0.1", 5)


class Dials:
    """An endpoint whose dials fail, and that notes them."""

    def __init__(self, errors: Mapping[Location, Exception]) -> None:
        self.id = b"m" * 16
        self.services = Services()
        self.tried: list[Location] = []
        self.reach = SimpleNamespace(link_to=self.link_to)
        self._errors = errors

    async def link_to(self, _process_id: bytes, place: Location, _realm: bytes, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.tried.append(place)
        raise self._errors[place]


async def tried(errors: Mapping[Location, Exception], count: int) -> list[Location]:
    """Let a process be found at two addresses; give the first addresses that are dialled."""
    endpoint: Any = Dials(errors)
    presence = Presence(endpoint, Role.PRIVATE, Role.NODE)
    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            presence._nursery = nursery
            for place in (FIRST, SECOND):
                presence._found(Found(PEER, Role.NODE, "peer", place))
            while len(endpoint.tried) < count and nursery.child_tasks:  # noqa: ASYNC110 - the clock is virtual
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
    found: list[Location] = endpoint.tried[:count]
    return found


async def test_a_search_for_a_scheduler_asks_in_every_second_until_its_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def note(*_: object) -> None:
        times.append(trio.current_time())

    monkeypatch.setattr(_discovery, "_send", note)
    endpoint: Any = SimpleNamespace(discovery=Discovery(credential=Credential(b"", bytes(32)), process_id=b"m" * 16))
    end = trio.current_time() + 10
    with pytest.raises(SchedulerNotFound):
        await find_scheduler(endpoint, 10)
    assert max(later - earlier for earlier, later in itertools.pairwise([*times, end])) <= 1.25


@pytest.mark.spec("B45")
async def test_a_process_that_does_not_answer_at_one_address_is_tried_at_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    silent = PeerDisconnected("it did not answer")
    assert await tried({FIRST: silent, SECOND: silent}, 4) == [FIRST, SECOND, FIRST, SECOND]


async def test_an_address_of_another_process_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    errors = {FIRST: ProcessEnded("another process listens there"), SECOND: PeerDisconnected("it did not answer")}
    assert await tried(errors, 4) == [FIRST, SECOND, SECOND, SECOND]


async def test_a_process_that_has_ended_at_its_only_address_is_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended = ProcessEnded("another process listens there")
    assert await tried({FIRST: ended, SECOND: ended}, 100) == [FIRST, SECOND]


@pytest.mark.parametrize(
    "text",
    ["no authority in cafile vouches for the peer's certificate", f"{FIRST} cannot be reached", f"{SECOND} fails"],
)
async def test_a_warning_about_a_process_names_its_address_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    error = PeerDisconnected(text)
    await tried({FIRST: error, SECOND: error}, 2)
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert sum(record.getMessage().count(str(place)) for place in (FIRST, SECOND)) == 1
    assert record.getMessage().endswith(text)
