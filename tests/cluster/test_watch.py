"""A server ends when its node is silent, and a node ends servers that are stopped."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio.cluster._watch import NodeWatch
from discoro_trio.link import Done

if TYPE_CHECKING:
    from discoro_trio.link import Link


class MadeUpLink:
    """A connection to a node that answers, or does not."""

    def __init__(self) -> None:
        self.answers = True
        self.asked = 0

    async def request(self, _message: object, *, timeout: float) -> Done:  # noqa: ASYNC109 - as that of a link
        self.asked += 1
        if not self.answers:
            await trio.sleep(timeout)
            message = "no reply"
            raise discoro.PeerDisconnected(message)
        return Done()


class EndedError(Exception):
    """The process would have ended."""


def end(_status: int) -> None:
    raise EndedError


@pytest.mark.spec("S52")
async def test_a_server_ends_after_five_pulses_of_silence_and_not_before(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    link = MadeUpLink()
    link.answers = False
    start = trio.current_time()
    with pytest.RaisesGroup(EndedError):
        await NodeWatch(cast("Link", link), lambda: 2.0).run()
    assert trio.current_time() - start == pytest.approx(10)


async def test_a_server_whose_node_answers_lives(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    link = MadeUpLink()
    with trio.move_on_after(1000):
        await NodeWatch(cast("Link", link), lambda: 2.0).run()
    assert link.asked == pytest.approx(500, abs=2)


async def test_a_server_that_was_stopped_does_not_judge_by_the_time_that_passed(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    watch = NodeWatch(cast("Link", MadeUpLink()), lambda: 2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(3600)
        await trio.testing.wait_all_tasks_blocked()
        assert watch.missed < 2
        nursery.cancel_scope.cancel()
