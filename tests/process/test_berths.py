"""Scopes that serve one coroutine after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from discoro_trio.process import _berths
from discoro_trio.process._berths import Berths

if TYPE_CHECKING:
    import pytest


async def test_a_scope_serves_one_coroutine_after_the_other(nursery: trio.Nursery) -> None:
    berths = Berths()
    assert berths.take(nursery) is None
    await trio.testing.wait_all_tasks_blocked()

    first = berths.take(nursery)
    assert first is not None
    assert berths.take(nursery) is None
    berths.give_back(first)
    assert berths.take(nursery) is first


async def test_a_scope_that_was_cancelled_serves_nobody_else(nursery: trio.Nursery) -> None:
    berths = Berths()
    berths.take(nursery)
    await trio.testing.wait_all_tasks_blocked()
    first = berths.take(nursery)
    assert first is not None

    first.cancel_scope.cancel()
    berths.give_back(first)
    assert berths.take(nursery) is None
    await trio.testing.wait_all_tasks_blocked()
    second = berths.take(nursery)
    assert second is not None
    assert not second.cancel_scope.cancel_called


async def test_none_is_free_once_what_surrounds_them_is_cancelled() -> None:
    berths = Berths()
    async with trio.open_nursery() as outer, trio.open_nursery() as inner:
        berths.take(inner)
        await trio.testing.wait_all_tasks_blocked()
        inner.cancel_scope.cancel()
        outer.start_soon(trio.lowlevel.checkpoint)
    async with trio.open_nursery() as other:
        assert berths.take(other) is None
        await trio.testing.wait_all_tasks_blocked()
        assert berths.take(other) is not None
        other.cancel_scope.cancel()


async def test_only_so_many_are_kept(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_berths, "MOST", 2)
    berths = Berths()
    for _ in range(5):
        assert berths.take(nursery) is None
    await trio.testing.wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 2
