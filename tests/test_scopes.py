"""Background tasks: what they raise beside what the body of their block raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from discoro_trio._scopes import open_background

if TYPE_CHECKING:
    from trio.testing import MockClock


async def two_below() -> None:
    """Wait in a nursery of two, so that a cancellation arrives as a group."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.sleep_forever()


async def fail() -> None:
    await trio.sleep(1)
    message = "out of order"
    raise ValueError(message)


async def test_a_cancellation_from_outside_is_no_failure_of_nested_tasks(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.move_on_after(1) as scope:
        async with open_background() as nursery:
            nursery.start_soon(two_below)
            await two_below()
    assert scope.cancelled_caught
    assert caplog.records == []


async def test_an_error_beside_nested_cancellations_is_raised_alone(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="out of order"):
        async with open_background() as nursery:
            nursery.start_soon(two_below)
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_what_a_task_raises_when_the_body_fails_is_logged_and_the_bodys_error_leaves(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_at_the_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            message = "too late"
            raise ValueError(message)

    with pytest.raises(KeyError):
        async with open_background() as nursery:
            nursery.start_soon(fail_at_the_end)
            await trio.lowlevel.checkpoint()
            raise KeyError
    assert [record.getMessage() for record in caplog.records] == ["a background task failed, too"]
