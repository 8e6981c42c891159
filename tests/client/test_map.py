"""`map`: its results, its errors, and what leaving it does to its jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def double(number: int) -> int:
    return 2 * number


async def fail_on_3(number: int) -> int:
    if number == 3:
        message = "three"
        raise ValueError(message)
    return number


async def wait_and_clean_up(client: discoro.Coro[None]) -> None:
    await client.send("runs")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.3)  # longer than a client that does not wait takes to leave its block
            await client.deliver("cleaned up")


async def add(left: int, right: int) -> int:
    return left + right


@pytest.mark.spec("B11")
async def test_values_come_in_order_or_as_they_are_ready_from_iterables_of_both_kinds() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(50):
            await trio.lowlevel.checkpoint()
            yield number

    expected = [2 * number for number in range(50)]
    async with open_computation([double]) as computation:
        assert await computation.run_results(double, range(50)) == expected
        assert await computation.run_results(double, numbers()) == expected
        async with computation.map(double, range(50), ordered=False, chunksize=7) as results:
            assert sorted([value async for value in results]) == expected
        async with computation.starmap(add, zip(range(5), range(5), strict=True)) as sums:
            assert [value async for value in sums] == [0, 2, 4, 6, 8]


def client_is_imported(_: int) -> bool:
    return "discoro_trio._client" in sys.modules


async def test_the_first_chunk_does_not_wait_until_its_server_has_imported_the_client() -> None:
    async with (
        open_computation([client_is_imported]) as computation,
        computation.map(client_is_imported, range(8), chunksize=2) as results,
    ):
        assert not any([value async for value in results])


async def quick_or_told(number: int, client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    if number == 0:
        await client.send(coro)
        await coro.receive()
    return number


@pytest.mark.spec("B11")
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_result_that_is_ready_waits_for_earlier_ones_only_if_they_are_wanted_in_order(
    ordered: bool,  # noqa: FBT001 - the option's own values
) -> None:
    async with (
        open_computation([quick_or_told]) as computation,
        discoro.open_coro() as client,
        computation.subscribe() as events,
        trio.open_nursery() as nursery,
    ):
        values: list[int] = []

        async def send_when_the_others_have_ended() -> None:
            slow = await client.receive()
            ended = 0
            while ended < 5:
                ended += isinstance(await events.receive(), discoro.MonitorException)
            while not ordered and len(values) < 5:  # noqa: ASYNC110 - the reader sets no event
                await trio.sleep(0.001)
            await slow.send("go")

        nursery.start_soon(send_when_the_others_have_ended)
        items = [(number, client) for number in range(6)]
        async with computation.starmap(quick_or_told, items, ordered=ordered) as results:
            async for value in results:
                values.append(value)  # noqa: PERF401 - the other task looks at it
    assert (values if ordered else [*sorted(values[:5]), *values[5:]]) == (
        [0, 1, 2, 3, 4, 5] if ordered else [1, 2, 3, 4, 5, 0]
    )


@pytest.mark.spec("B11")
async def test_no_more_items_are_read_than_the_limit_beyond_what_was_taken() -> None:
    read, taken, furthest = 0, 0, 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in range(100):
            read += 1
            yield number

    async with open_computation([double]) as computation, computation.map(double, numbers(), limit=5) as results:
        async for _ in results:
            taken += 1
            furthest = max(furthest, read - taken)
    assert taken == read == 100
    assert furthest <= 5


@pytest.mark.spec("B11")
async def test_an_error_of_a_job_cancels_the_body_and_the_other_jobs() -> None:
    async with open_computation([fail_on_3]) as computation:

        async def consume() -> None:
            async with computation.map(fail_on_3, range(3, 100)):
                await trio.sleep_forever()

        with pytest.raises(ExceptionGroup) as caught:
            await consume()
        (error,) = caught.value.exceptions
        assert (type(error), error.args) == (ValueError, ("three",))


@pytest.mark.spec("B02")
@pytest.mark.parametrize("how", ["break", "cancel", "raise"])
async def test_however_the_block_is_left_its_jobs_have_cleaned_up(how: str) -> None:
    async with open_computation([wait_and_clean_up]) as computation, discoro.open_coro() as client:
        caught: list[BaseException] = []
        with trio.CancelScope() as scope:
            try:
                async with computation.map(wait_and_clean_up, [client] * 2, limit=2):
                    assert [await client.receive(), await client.receive()] == ["runs", "runs"]
                    if how == "cancel":
                        scope.cancel()
                        await trio.sleep_forever()
                    if how == "raise":
                        msg = "nested"
                        raise ExceptionGroup(msg, [KeyError(1), ExceptionGroup("deeper", [KeyError(2)])])
            except* KeyError as group:
                caught += group.exceptions
        assert scope.cancelled_caught == (how == "cancel")
        assert [repr(error) for error in caught] == (["KeyError(1)", "KeyError(2)"] if how == "raise" else [])
        assert [client.receive_nowait(), client.receive_nowait()] == ["cleaned up", "cleaned up"]
        with pytest.raises(trio.WouldBlock):
            client.receive_nowait()


@pytest.mark.spec("B02")
async def test_a_deadline_around_run_results_is_left_after_the_remote_clean_up() -> None:
    async with open_computation([wait_and_clean_up]) as computation, discoro.open_coro() as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(computation.run_results, wait_and_clean_up, [client])
                assert await client.receive() == "runs"
                scope.cancel()
        assert client.receive_nowait() == "cleaned up"


async def test_results_of_a_large_chunk_are_a_cancellation_point_and_let_other_tasks_run() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_computation([double]) as computation, trio.open_nursery() as nursery:
        async with computation.map(double, range(3000), chunksize=3000) as results:
            first = await anext(aiter(results))
            nursery.start_soon(count_turns)
            seen = turns
            taken = [first]
            began = trio.current_time()
            with trio.CancelScope() as scope:
                async for value in results:
                    taken.append(value)
                    while trio.current_time() < began + 0.001:  # a consumer that computes
                        pass
                    if len(taken) == 1000:
                        scope.cancel()
            assert scope.cancelled_caught
            assert 1000 <= len(taken) <= 1064
            assert taken == [2 * number for number in range(len(taken))]
            assert turns > seen
        nursery.cancel_scope.cancel()


async def test_a_limit_counts_items_of_chunks_until_they_are_taken() -> None:
    read = taken = 0
    most = 0

    def numbers() -> Iterator[int]:
        nonlocal read, most
        for number in range(400):
            read += 1
            most = max(most, read - taken)
            yield number

    async with (
        open_computation([double]) as computation,
        computation.map(double, numbers(), chunksize=100, limit=200) as results,
    ):
        async for _ in results:
            taken += 1
    assert read == taken == 400
    assert 100 <= most <= 201  # the loop takes a result a moment before it is counted here
