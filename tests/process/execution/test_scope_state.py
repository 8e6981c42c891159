"""What is read of Trio's own state says what Trio's public words say."""

from __future__ import annotations

import trio
from trio.lowlevel import current_task

from discoro_trio._process.execution import _scope_state
from discoro_trio._process.execution._scope_state import cancelled, innermost


async def test_a_task_is_cancelled_by_any_scope_around_it_that_is_not_shielded_off() -> None:
    assert cancelled is _scope_state._cancelled_by_status
    for tells in (cancelled, _scope_state._cancelled_by_deadline):
        assert not tells()
        with trio.CancelScope() as outer, trio.CancelScope():  # noqa: ASYNC100 - nothing shall wait
            assert not tells()
            outer.cancel()
            assert tells()
            with trio.CancelScope(shield=True):  # noqa: ASYNC100
                assert not tells()
        assert not tells()


async def test_every_scope_and_nursery_is_another_innermost_one() -> None:
    task = current_task()
    before = innermost(task)
    with trio.CancelScope():
        inside = innermost(task)
        async with trio.open_nursery():
            assert len({id(before), id(inside), id(innermost(task))}) == 3
    assert innermost(task) is before
