"""The main job, end to end: functions at servers, their values, and messages with them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio._client import _session

from .clusters import open_computation, run_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def add(a: int, b: int) -> int:
    return a + b


async def zeros(count: int) -> bytes:
    return bytes(count)


async def talk_to_the_next(number: int, rounds: int, *, coro: discoro.Coro[int]) -> int:
    """Send to the coroutine whose handle comes, and add up what comes from another."""
    total = 0
    for _ in range(rounds + 1):
        message = await coro.receive()
        if isinstance(message, discoro.Coro):
            for _ in range(rounds):
                await message.send(number)
        else:
            total += message
    return total


@pytest.mark.spec("B06", "B11", "S67")
async def test_20_000_jobs_with_256_in_flight_have_each_its_value() -> None:
    numbers = iter(range(20_000))
    found: dict[int, int] = {}

    async def work(computation: discoro.Computation) -> None:
        for number in numbers:
            found[number] = await computation.run_result(add, number, 1)

    async with open_computation([add], seconds=60) as computation, trio.open_nursery() as nursery:
        for _ in range(256):
            nursery.start_soon(work, computation)
    assert found == {number: number + 1 for number in range(20_000)}


async def test_256_jobs_right_after_the_schedule_all_end_in_each_of_many_computations() -> None:
    async with discoro.open_cluster(servers=2):
        for _ in range(10):
            found: set[int] = set()

            async def one(computation: discoro.Computation, number: int, found: set[int]) -> None:
                found.add(await computation.run_result(add, number, 1))

            with trio.fail_after(60):
                async with discoro.Computation([add]).schedule() as computation, trio.open_nursery() as nursery:
                    for number in range(256):
                        nursery.start_soon(one, computation, number, found)
            assert found == set(range(1, 257))


async def test_a_result_of_200_MB_arrives_and_small_ones_beside_it() -> None:  # noqa: N802 (the unit)
    size = 200_000_000
    async with open_computation(servers=1) as computation, trio.open_nursery() as nursery:
        done = trio.Event()

        async def fetch() -> None:
            assert await computation.run_result(zeros, size) == bytes(size)
            done.set()

        nursery.start_soon(fetch)
        count = 0
        while not done.is_set():
            assert await computation.run_result(add, count, count) == 2 * count
            count += 1
    assert count


@pytest.mark.spec("S11", "S31", "S73")
async def test_1000_coroutines_on_two_servers_talk_at_once() -> None:
    count, rounds = 1000, 5
    async with open_computation([talk_to_the_next]) as computation:
        ring = [await computation.run(talk_to_the_next, number, rounds) for number in range(count)]
        assert len({coro.location for coro in ring}) == 2
        for coro, following in zip(ring, [*ring[1:], ring[0]], strict=True):
            await coro.send(following)
        totals = [await coro.result() for coro in ring]
    assert totals == [rounds * ((number - 1) % count) for number in range(count)]


async def answer_and_clean_up(asker: discoro.Coro[Any], *, coro: discoro.Coro[None]) -> None:
    try:
        async for message in coro:
            await asker.send(("answer", message))
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
            await asker.send("cleaned up")


@pytest.mark.spec("S73", "B02")
async def test_a_remote_coroutine_gets_messages_is_monitored_and_has_cleaned_up_once_it_is_terminated() -> None:
    async with open_computation([answer_and_clean_up]) as computation, discoro.open_coro("asker") as asker:
        coro = await computation.run(answer_and_clean_up, asker)
        await coro.monitor(asker)
        for number in range(3):
            await coro.send(number)
            assert await asker.receive() == ("answer", number)
        await coro.terminate()
        assert asker.receive_nowait() == "cleaned up"
        ended = await asker.receive()
        assert isinstance(ended, discoro.MonitorException)
        assert ended.coro == coro
        assert isinstance(ended.error, discoro.CoroCancelled)


@pytest.mark.spec("S46", "S43")
async def test_a_class_of_main_is_the_same_class_on_both_sides(tmp_path: Path) -> None:
    source = """
from dataclasses import dataclass
import trio
import discoro_trio as discoro

@dataclass
class Point:
    x: int
    y: int

    def turned(self) -> "Point":
        return Point(-self.y, self.x)

class Special(Point):
    pass

async def turn(point, *, coro):
    assert isinstance(point, Point), type(point)
    assert type(point).__module__ == "__main__"
    other = await coro.receive()
    assert type(other) is Special and isinstance(other, Point)
    return point.turned(), other

async def main():
    async with discoro.open_cluster(servers=1):
        async with discoro.Computation([turn, Point, Special]).schedule() as computation:
            rcoro = await computation.run(turn, Point(1, 2))
            await rcoro.send(Special(3, 4))
            point, special = await rcoro.result()
            print(isinstance(point, Point), point == Point(-2, 1), type(special) is Special, special)

if __name__ == "__main__":
    trio.run(main)
"""
    assert await run_script(source, tmp_path) == "True True True Special(x=3, y=4)\n"


@pytest.mark.spec("S63")
async def test_coroutines_that_are_started_at_once_are_spread_over_all_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_session, "_PATIENCE", 30.0)  # as long as the servers take on a busy machine
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=4),
            discoro.Computation([trio.sleep_forever]).schedule() as computation,
        ):
            locations = {(await computation.run(trio.sleep_forever)).location for _ in range(4)}
            assert len(locations) == 4


# --- cancelling


async def wait_and_clean_up(client: discoro.Coro[None]) -> None:
    await client.send("runs")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await client.deliver("cleaned up")


@pytest.mark.spec("B02")
async def test_a_cancelled_scope_around_run_result_is_left_after_the_remote_clean_up() -> None:
    async with open_computation([wait_and_clean_up]) as computation, discoro.open_coro() as client:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(computation.run_result, wait_and_clean_up, client)
                assert await client.receive() == "runs"
                scope.cancel()
        assert scope.cancelled_caught
        assert client.receive_nowait() == "cleaned up"


@pytest.mark.spec("B02")
async def test_a_cancelled_wait_in_result_leaves_the_coroutine_running() -> None:
    async with open_computation([wait_and_clean_up]) as computation, discoro.open_coro() as client:
        rcoro = await computation.run(wait_and_clean_up, client)
        assert await client.receive() == "runs"
        with trio.move_on_after(0.01):
            await rcoro.result()
        with pytest.raises(trio.WouldBlock):
            client.receive_nowait()
        rcoro.cancel("enough")
        with pytest.raises(discoro.CoroCancelled) as caught:
            await rcoro.result()
        assert caught.value.reason == "enough"
        assert await client.receive() == "cleaned up"


async def clean_up_when_told(client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    await client.send("runs")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await client.send("ends")
            await coro.receive()


@pytest.mark.spec("S71")
async def test_the_block_is_left_after_the_clean_up_when_another_task_closes_the_computation() -> None:
    told = False

    async def tell(rcoro: discoro.Coro[None], client: discoro.Coro[None]) -> None:
        nonlocal told
        assert await client.receive() == "ends"
        await trio.testing.wait_all_tasks_blocked(0.01)
        told = True
        await rcoro.send("go on")

    async with discoro.open_cluster(servers=1), discoro.open_coro() as client, trio.open_nursery() as nursery:
        computation = discoro.Computation([clean_up_when_told])
        async with computation.schedule():
            rcoro = await computation.run(clean_up_when_told, client)
            assert await client.receive() == "runs"
            nursery.start_soon(computation.close)
            nursery.start_soon(tell, rcoro, client)
            await trio.testing.wait_all_tasks_blocked()
        assert told


# --- bad use


async def generate() -> object:
    yield 1


def old_style() -> object:
    yield 1


@pytest.mark.spec("S42", "S68")
async def test_bad_use_gets_a_sentence_that_says_what_to_do() -> None:
    computation = discoro.Computation([add])
    untyped: Any = computation  # a type checker would find the rest
    with pytest.raises(RuntimeError, match=re.escape("run it inside 'async with computation.schedule():'")):
        await computation.run(add, 1, 2)
    with pytest.raises(
        TypeError, match="a component is a function, a class, a module, or the path of a file or folder"
    ):
        discoro.Computation([add, 17])
    with pytest.raises(ValueError, match="servers must be 1 or more, not 0; leave it out for one per processor"):
        async with discoro.open_cluster(servers=0):
            pass
    with trio.fail_after(30):
        async with discoro.open_cluster(servers=1):
            async with computation.schedule():
                with pytest.raises(RuntimeError, match="make a second Computation to schedule twice"):
                    async with computation.schedule():
                        pass
                with pytest.raises(TypeError, match="an async function or a plain function is needed, not 17"):
                    await untyped.run(17)
                with pytest.raises(TypeError, match="not run\\(add\\(…\\)\\)"):
                    await untyped.run(add(1, 2))
                with pytest.raises(TypeError, match="is an async generator function"):
                    await untyped.run(generate)
                with pytest.raises(TypeError, match="make it `async def`, with `await` for `yield`"):
                    await untyped.run(old_style)
                with pytest.raises(TypeError, match="coro= cannot be given"):
                    await untyped.run(talk_to_the_next, 1, 2, coro=1)
                assert await computation.run_result(add, 1, 2) == 3
            with pytest.raises(discoro.ComputationClosed, match="it runs nothing more"):
                await computation.run(add, 1, 2)
            async with computation.schedule():
                await computation.close()
                with pytest.raises(discoro.ComputationClosed, match="it runs nothing more"):
                    await computation.run_result(add, 1, 2)
