"""Local nurseries: children with handles and mailboxes of their own, errors as with Trio, always in a flat group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def endpoint() -> AsyncIterator[None]:
    async with discoro.open_endpoint():
        yield


async def total(count: int, *, coro: discoro.Coro[Any]) -> int:
    return sum([await coro.receive() for _ in range(count)])


async def fail(text: str) -> None:
    raise ValueError(text)


async def test_outside_of_an_endpoint_it_says_what_to_open() -> None:
    with pytest.raises(RuntimeError, match="open_endpoint"):
        async with discoro.open_nursery():
            pass


async def test_leaving_waits_for_all(endpoint: None) -> None:
    ended: list[int] = []

    async def child(number: int) -> None:
        await trio.lowlevel.checkpoint()
        ended.append(number)

    async with discoro.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(child, number)
    assert sorted(ended) == [0, 1, 2]


async def test_each_child_has_a_mailbox_and_a_result_of_its_own(endpoint: None) -> None:
    async with discoro.open_nursery() as nursery:
        first = await nursery.run(total, 2)
        second = await nursery.run(total, 1)
        for coro, message in ((first, 1), (second, 10), (first, 2)):
            await coro.send(message)
        assert await first.result() == 3
        assert await second.result() == 10
    assert await first.result() == 3, "the outcome is kept while somebody holds the handle"


async def test_a_plain_function_runs_in_a_thread(endpoint: None) -> None:
    async with discoro.open_nursery() as nursery:
        coro = await nursery.run(trio.lowlevel.in_trio_task)
        assert await coro.result() is False


async def test_an_error_cancels_the_rest_and_comes_in_a_group(endpoint: None) -> None:
    cleaned = False

    async def sibling() -> None:
        nonlocal cleaned
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            cleaned = True

    async def block() -> None:
        async with discoro.open_nursery() as nursery:
            nursery.start_soon(sibling)
            nursery.start_soon(fail, "alone")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [str(error) for error in caught.value.exceptions] == ["alone"]
    assert cleaned


async def test_groups_are_flat(endpoint: None) -> None:
    async def fail_in_group() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(fail, "inner")

    async def block() -> None:
        async with discoro.open_nursery() as nursery:
            nursery.start_soon(fail_in_group)
            nursery.start_soon(fail, "outer")
            await trio.testing.wait_all_tasks_blocked()
            await fail("body")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert {str(error) for error in caught.value.exceptions} >= {"inner", "outer"}
    assert not [error for error in caught.value.exceptions if isinstance(error, BaseExceptionGroup)]


async def test_a_child_that_somebody_cancels_ends_silently(endpoint: None) -> None:
    async with discoro.open_nursery() as nursery:
        coro = await nursery.run(trio.sleep_forever)
        coro.cancel("enough")
        with pytest.raises(discoro.CoroCancelled) as caught:
            await coro.result()
    assert caught.value.reason == "enough"


async def test_its_scope_cancels_all_without_an_error(endpoint: None) -> None:
    async with discoro.open_nursery() as nursery:
        coro = await nursery.run(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    with pytest.raises(discoro.CoroCancelled, match="nursery was cancelled"):
        await coro.result()


async def test_a_deadline_around_it_is_no_error(endpoint: None) -> None:
    with trio.move_on_after(0) as scope:
        async with discoro.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
    assert scope.cancelled_caught


async def test_start_gives_what_the_child_has_started_with(endpoint: None) -> None:
    async def serve(port: int, *, task_status: trio.TaskStatus[str]) -> None:
        task_status.started(f"at {port}")
        await trio.sleep_forever()

    async with discoro.open_nursery() as nursery:
        assert await nursery.start(serve, 7) == "at 7"
        nursery.cancel_scope.cancel()


async def test_start_raises_what_the_child_raised_before(endpoint: None) -> None:
    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await fail("too early")

    async with discoro.open_nursery() as nursery:
        with pytest.raises(ValueError, match="too early"):
            await nursery.start(serve)


async def test_bad_calls_get_a_sentence(endpoint: None) -> None:
    def old() -> Any:
        yield

    async with discoro.open_nursery() as nursery:
        with pytest.raises(TypeError, match="generator function"):
            nursery.start_soon(old)
        with pytest.raises(TypeError, match="coro= cannot be given"):
            await nursery.run(total, 1, coro=None)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        nursery.start_soon(fail, "late")


async def test_nurseries_nest(endpoint: None) -> None:
    async def outer(*, coro: discoro.Coro[Any]) -> int:
        async with discoro.open_nursery() as nursery:
            inner = await nursery.run(total, 1)
            await inner.send(await coro.receive())
            return await inner.result()

    async with discoro.open_nursery() as nursery:
        coro = await nursery.run(outer)
        await coro.send(5)
        assert await coro.result() == 5


async def test_arguments_and_names_are_those_of_the_child(endpoint: None) -> None:
    seen: list[object] = []

    async def child(coro: discoro.Coro[Any], number: int, *, more: int = 0) -> None:
        seen.append((number, more, coro.name.rpartition(".")[2]))

    async def start(number: int, *, task_status: trio.TaskStatus[int], coro: discoro.Coro[Any]) -> None:
        seen.append((number, coro.name))
        task_status.started(number)

    async with discoro.open_nursery() as nursery:
        await (await nursery.run(child, 1, more=2)).result()
        assert await nursery.start(start, 3, name="three") == 3
        nursery.start_soon(child, 4, name="four")
    assert seen == [(1, 2, "child"), (3, "three"), (4, 0, "four")]
