"""A nursery whose tasks run on servers: it waits, it cancels, and what fails comes in one flat group."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from discoro_trio._client import ComputationNursery

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B01"),
]


@pytest.fixture
async def computation() -> AsyncIterator[discoro.Computation]:
    async with open_computation([stay, add], grace_period=2.0) as computation:
        yield computation


async def add(a: int, b: int) -> int:
    return a + b


async def stay(folder: Path, *, coro: discoro.Coro[Any]) -> None:
    """Say in a folder where it runs, and at its end that it has cleaned up."""
    mark = folder / f"{coro.location}-{coro.serial:x}"
    mark.write_text("runs")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        mark.write_text("clean")


def states(folder: Path, pattern: str = "*") -> list[str]:
    return [path.read_text() for path in folder.glob(pattern)]


async def until_they_run(folder: Path, count: int) -> None:
    while states(folder) != ["runs"] * count:  # noqa: ASYNC110 (other processes write them)
        await trio.sleep(0.005)


async def fail_when_told(text: str, *, coro: discoro.Coro[Any]) -> None:
    await coro.receive()
    raise ValueError(text)


async def fail(text: str) -> None:
    raise ValueError(text)


async def stay_in_each(computation: discoro.Computation, nursery: ComputationNursery, folder: Path) -> None:
    """Let two coroutines stay at each of two servers."""
    for server in await computation.servers() * 2:
        nursery.start_soon_at(server, stay, folder)
    await until_they_run(folder, 4)


def texts(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """Give the texts of a flat group's errors."""
    assert not [error for error in group.exceptions if isinstance(error, BaseExceptionGroup)]
    return sorted(str(error) for error in group.exceptions)


# --- waiting


async def test_leaving_waits_for_all(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        first = await nursery.run(add, 1, 2)
        second = await nursery.run_at((await computation.servers())[1], receive_one)
        nursery.start_soon(send_to, second, "message")
    assert await first.result() == 3
    assert await second.result() == "message"
    assert computation.statistics().running == 0


async def receive_one(*, coro: discoro.Coro[Any]) -> object:
    return await coro.receive()


async def send_to(receiver: discoro.Coro[Any], message: object) -> None:
    await receiver.send(message)


async def test_start_soon_never_waits_and_the_block_waits_for_a_server() -> None:
    computation = discoro.Computation()
    async with discoro.open_cluster(servers=1), computation.schedule(servers=0):
        async with computation.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(add, number, 1)
            assert (computation.statistics().servers, computation.statistics().waiting) == (0, 50)
        assert computation.statistics().submitted == 50


async def test_a_name_is_the_coroutine_s(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        nursery.start_soon(check_name, "chosen", name="chosen")
        nursery.start_soon_at("127.0.0.1", check_name, "other", name="other")
        coro = await nursery.run(check_name, "check_name")
        assert coro.name == "check_name"


async def check_name(expected: str, *, coro: discoro.Coro[Any]) -> None:
    assert coro.name == expected


async def test_a_plain_function_runs_too(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        coro = await nursery.run(pow, 2, 5)
    assert await coro.result() == 32


# --- failing


async def test_when_one_fails_its_siblings_on_both_servers_have_cleaned_up(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    try:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            failing = await nursery.run(fail_when_told, "first")
            await failing.send("now")
            await trio.sleep_forever()
    except* ValueError as group:
        caught = group
    assert texts(caught) == ["first"]
    assert states(tmp_path) == ["clean"] * 4
    assert any("fail_when_told" in note for note in caught.exceptions[0].__notes__), "the remote traceback is there"


async def test_one_error_comes_in_a_group_too(computation: discoro.Computation) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await run_in_nursery(computation, "alone")
    assert texts(caught.value) == ["alone"]
    assert type(caught.value.exceptions[0]) is ValueError


async def run_in_nursery(computation: discoro.Computation, text: str) -> None:
    async with computation.open_nursery() as nursery:
        nursery.start_soon(fail, text)


@pytest.mark.spec("B02")
async def test_the_siblings_are_cancelled_though_the_body_is_shielded(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await shield_body(computation, tmp_path)
    assert texts(caught.value) == ["now"]


async def shield_body(computation: discoro.Computation, folder: Path) -> None:
    async with computation.open_nursery() as nursery:
        await stay_in_each(computation, nursery, folder)
        nursery.start_soon(fail, "now")
        with trio.CancelScope(shield=True):
            while states(folder) != ["clean"] * 4:  # noqa: ASYNC110 (other processes write them)
                await trio.sleep(0.005)


async def test_the_body_s_error_is_in_the_group(computation: discoro.Computation, tmp_path: Path) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert states(tmp_path) == ["clean"] * 4


async def test_an_error_that_the_body_gets_as_a_result_is_in_the_group_once(computation: discoro.Computation) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            failing = await nursery.run(fail_when_told, "once")
            await failing.send("now")
            await failing.result()

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert texts(caught.value) == ["once"]


async def test_an_error_in_the_clean_up_is_in_the_group(computation: discoro.Computation) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            coro = await nursery.run(fail_in_clean_up)
            await coro.deliver("it runs")
            raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert {type(error) for error in caught.value.exceptions} == {LookupError, ValueError}


async def fail_in_clean_up(*, coro: discoro.Coro[Any]) -> None:
    try:
        await coro.receive()
        await trio.sleep_forever()
    finally:
        raise ValueError


async def test_groups_from_servers_and_from_nested_nurseries_become_flat(computation: discoro.Computation) -> None:
    async def block() -> None:
        async with computation.open_nursery() as outer:
            outer.start_soon(fail_twice)
            await run_in_nursery(computation, "inner")

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert set(texts(caught.value)) <= {"one", "two", "inner"}
    assert len(caught.value.exceptions) >= 1


async def fail_twice() -> None:
    message = "both"
    raise ExceptionGroup(message, [ValueError("one"), ValueError("two")])


async def test_a_lost_server_is_an_error_once_and_cancels_the_rest(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    first, second = await computation.servers()

    async def block() -> None:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            nursery.start_soon_at(second, exit_now)

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    (error,) = caught.value.exceptions
    assert isinstance(error, discoro.ServerLost)
    assert error.location == second
    assert states(tmp_path, f"{first}-*") == ["clean"] * 2


async def exit_now() -> None:
    os._exit(3)


async def test_a_coroutine_that_somebody_else_cancels_ends_silently(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    async with computation.open_nursery() as nursery:
        coro = await nursery.run(stay, tmp_path)
        await until_they_run(tmp_path, 1)
        coro.cancel("not needed")
    with pytest.raises(discoro.CoroCancelled, match="not needed"):
        await coro.result()


# --- cancelling


@pytest.mark.spec("B02")
async def test_a_deadline_around_it_cancels_all_and_waits_for_their_clean_up(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    with trio.CancelScope() as scope:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            scope.deadline = trio.current_time()
    assert scope.cancelled_caught
    assert states(tmp_path) == ["clean"] * 4


@pytest.mark.spec("B02")
async def test_its_own_scope_cancels_all_without_an_error(computation: discoro.Computation, tmp_path: Path) -> None:
    async with computation.open_nursery() as nursery:
        await stay_in_each(computation, nursery, tmp_path)
        nursery.cancel_scope.cancel()
        nursery.start_soon(stay, tmp_path)
    assert states(tmp_path) == ["clean"] * 4


@pytest.mark.spec("B02")
async def test_with_a_deadline_and_an_error_the_error_is_not_lost(computation: discoro.Computation) -> None:
    async def block(scope: trio.CancelScope) -> None:
        with scope:
            async with computation.open_nursery() as nursery:
                coro = await nursery.run(fail_in_clean_up)
                await coro.deliver("it runs")
                scope.cancel()

    scope = trio.CancelScope()
    with pytest.raises(ExceptionGroup) as caught:
        await block(scope)
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


@pytest.mark.spec("B03")
async def test_what_does_not_react_is_ended_by_force_after_the_grace_period() -> None:
    async with open_computation(servers=1, grace_period=0.1) as computation:
        with trio.CancelScope() as scope:
            async with computation.open_nursery() as nursery:
                coro = await nursery.run(hold_on)
                await coro.deliver("it runs")
                scope.cancel()
        assert scope.cancelled_caught
        assert await computation.run_result(add, 1, 2) == 3


async def hold_on(*, coro: discoro.Coro[Any]) -> None:
    await coro.receive()
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


@pytest.mark.spec("B02")
async def test_1000_are_cancelled_together(computation: discoro.Computation) -> None:
    async with computation.open_nursery() as nursery:
        coros = [await nursery.run(trio.sleep_forever) for _ in range(1000)]
        nursery.cancel_scope.cancel()
    with pytest.raises(discoro.CoroCancelled, match="nursery was cancelled"):
        await coros[-1].result()
    assert computation.statistics().running == 0


async def test_it_mixes_with_local_nurseries(computation: discoro.Computation, tmp_path: Path) -> None:
    async def stay_there() -> None:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            running.set()

    async def block() -> None:
        async with discoro.open_nursery() as local:
            local.start_soon(stay_there)
            await running.wait()
            local.start_soon(fail, "here")

    running = trio.Event()
    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert texts(caught.value) == ["here"]
    assert states(tmp_path) == ["clean"] * 4


# --- what cannot be


async def receive_lock(_lock: object) -> None:
    pass


async def test_bad_calls_get_a_sentence(computation: discoro.Computation) -> None:
    def old() -> Any:
        yield

    async with computation.open_nursery() as nursery:
        with pytest.raises(TypeError, match="generator function"):
            nursery.start_soon(old, name="named")
        with pytest.raises(discoro.UnknownLocation):
            nursery.start_soon_at("nowhere.example", add, 1, 2)
        with pytest.raises(TypeError, match="where must be"):
            nursery.start_soon_at(add, 1, 2)  # type: ignore[call-overload]
        with pytest.raises(discoro.NotPicklable):
            nursery.start_soon(receive_lock, threading.Lock())
    with pytest.raises(RuntimeError, match="has been left"):
        nursery.start_soon(add, 1, 2)
    with pytest.raises(RuntimeError, match="has been left"):
        await nursery.run(add, 1, 2)


async def test_while_there_is_no_server_the_block_raises_that_a_place_is_unknown() -> None:
    async def block(computation: discoro.Computation) -> None:
        async with computation.open_nursery() as nursery:
            nursery.start_soon_at("nowhere.example", add, 1, 2)

    computation = discoro.Computation()
    async with discoro.open_cluster(servers=1), computation.schedule():
        with pytest.raises(ExceptionGroup) as caught:
            await block(computation)
    assert [type(error) for error in caught.value.exceptions] == [discoro.UnknownLocation]


async def test_when_the_computation_is_closed_the_block_says_so_once(
    computation: discoro.Computation, tmp_path: Path
) -> None:
    async def block() -> None:
        async with computation.open_nursery() as nursery:
            await stay_in_each(computation, nursery, tmp_path)
            await computation.close()

    with pytest.raises(ExceptionGroup) as caught:
        await block()
    assert {type(error) for error in caught.value.exceptions} == {discoro.ComputationClosed}
    assert states(tmp_path) == ["clean"] * 4
