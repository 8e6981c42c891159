"""What holds in every kind of cluster, however its nodes and its scheduler run; with the default options."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import DiscoroStatus, MonitorException, Status

from .kinds import SERVERS, kind

if TYPE_CHECKING:
    from .kinds import Kind

__all__ = ["kind"]
pytestmark = [pytest.mark.program, pytest.mark.slow]


class Memory:
    """A server's own."""

    words: list[str] = []  # noqa: RUF012 - shared by all jobs of a server on purpose
    running = 0


def own_pid() -> int:
    return os.getpid()


async def echo(value: object) -> object:
    return value


async def fail(text: str) -> None:
    raise ValueError(text)


async def sleep(path: Path) -> None:
    """Sleep until cancelled, and clean up."""
    here = trio.Path(path)
    await here.touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await here.with_suffix(".clean").touch()


def block(path: Path) -> None:
    path.touch()
    time.sleep(600)


async def block_thread(path: Path) -> None:
    block(path)


def leave_a_mark(word: str) -> tuple[list[str], list[str]]:
    """Tell what others have left in memory and in the folder, and leave something."""
    seen = list(Memory.words), sorted(path.name for path in Path.cwd().iterdir())
    Memory.words.append(word)
    Path(word).write_text(word, encoding="utf-8")
    return seen


async def most_at_once() -> int:
    """Return how many of these run at this server now."""
    Memory.running += 1
    for _ in range(10):
        await trio.lowlevel.checkpoint()
    Memory.running -= 1
    return Memory.running + 1


async def words(*, coro: discoro.Coro[list[object]]) -> list[object]:
    return [await coro.receive(), await coro.receive()]


async def reply(*, coro: discoro.Coro[None]) -> None:
    coro.register("the one that replies")
    async for sender, number in coro:
        await sender.send(2 * number)


async def ask(number: int, *, coro: discoro.Coro[int]) -> int:
    """Ask the coroutine of a name, at another server."""
    with trio.fail_after(60):
        other = await discoro.locate("the one that replies")
    await other.send((coro, number))
    answer: int = await coro.receive()
    return answer


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def once(folder: Path, number: int) -> int:
    """Kill the server at the first attempt of one item."""
    if number == 3:
        mark = folder / "died"
        if not mark.exists():
            mark.touch()
            os._exit(3)
    return number


async def pid_at(computation: discoro.Computation, place: discoro.Location) -> int:
    return await (await computation.run_at(place, own_pid)).result()


def cleaned(folder: Path) -> int:
    """Return how many have cleaned up."""
    return len(list(folder.glob("*.clean")))


async def until(holds: Any) -> None:
    while not holds():  # noqa: ASYNC110 - another process does it
        await trio.sleep(0.01)


# --- computations and their ends


@pytest.mark.spec("S71", "S72")
async def test_the_next_computation_finds_nothing_of_the_one_before(kind: Kind) -> None:
    for word in ("first", "second"):
        async with kind.scheduled(Memory, leave_a_mark) as computation:
            coros = await computation.run_servers(leave_a_mark, word)
            assert [await coro.result() for coro in coros] == [([], [])] * SERVERS


@pytest.mark.spec("S71", "B02")
async def test_closing_cancels_what_runs_and_waits_for_its_clean_up(kind: Kind, tmp_path: Path) -> None:
    async with kind.scheduled(sleep) as computation:
        await computation.run(sleep, tmp_path / "runs")
        await until((tmp_path / "runs").exists)
    assert (tmp_path / "runs.clean").exists()


@pytest.mark.spec("S75", "S76", "S77", "S78", "S79", "S80", "S74")
async def test_status_messages_tell_the_life_of_everything(kind: Kind) -> None:
    computation = discoro.Computation([echo, fail])
    async with kind.place(), computation.subscribe() as channel:
        async with computation.schedule(servers=SERVERS):
            coro = await computation.run(echo, 1)
            assert await coro.result() == 1
            failed = await computation.run(fail, "broken")
            with pytest.raises(ValueError, match="broken"):
                await failed.result()
            servers = await computation.servers()
        events: list[Any] = [event async for event in channel]
    created = [event.info for event in events if getattr(event, "status", None) is Status.CoroCreated]
    ended = [event for event in events if isinstance(event, MonitorException)]
    assert [(info.coro, info.args) for info in created] == [(coro, (1,)), (failed, ("broken",))]
    assert [(event.coro, event.value, repr(event.error)) for event in ended] == [
        (coro, 1, "None"),
        (failed, None, "ValueError('broken')"),
    ]
    assert all(abs(info.start_time - time.time()) < 300 for info in created)
    told = [event for event in events if isinstance(event, DiscoroStatus)]
    for status in (Status.ServerDiscovered, Status.ServerInitialized, Status.ServerClosed):
        assert sorted(str(event.info) for event in told if event.status is status) == sorted(map(str, servers))
    nodes = {place.addr for place in servers}
    for status in (Status.NodeDiscovered, Status.NodeInitialized, Status.NodeClosed):
        assert {event.info for event in told if event.status is status} == nodes
    assert Status.ComputationScheduled in {event.status for event in told}
    assert told[-1].status is Status.ComputationClosed


@pytest.mark.spec("S73", "B16")
async def test_a_remote_coroutine_gets_messages_is_monitored_and_terminated(kind: Kind, tmp_path: Path) -> None:
    async with kind.scheduled(words, sleep) as computation, discoro.open_coro("observer") as observer:
        coro = await computation.run(words)
        await coro.monitor(observer)
        await coro.send("first")
        await coro.deliver("second")
        told = await observer.receive()
        assert (told.coro, told.value, told.error) == (coro, ["first", "second"], None)
        sleeping = await computation.run(sleep, tmp_path / "runs")
        await until((tmp_path / "runs").exists)
        await sleeping.terminate()
        assert (tmp_path / "runs.clean").exists()
        with pytest.raises(discoro.CoroCancelled):
            await sleeping.result()


@pytest.mark.spec("B16")
async def test_servers_find_each_other_by_name_and_exchange_messages(kind: Kind) -> None:
    async with kind.scheduled(reply, ask) as computation:
        first, second = await computation.servers()
        await computation.run_at(first, reply)
        asking = [await computation.run_at(place, ask, number) for number, place in enumerate((second, first, second))]
        assert [await coro.result() for coro in asking] == [0, 2, 4]


# --- ProcScheduler


@pytest.mark.spec("S98", "S99", "S100", "S101", "S102", "S103")
async def test_a_proc_scheduler_runs_one_at_a_time_on_each_server(kind: Kind) -> None:
    async with kind.scheduled(Memory, most_at_once, words, own_pid) as computation:
        others = [await computation.run_at(place, words) for place in await computation.servers()]  # do not count
        results: list[int] = []

        async def work(scheduler: discoro.ProcScheduler) -> None:
            results.append(await scheduler.execute(most_at_once))

        async with discoro.ProcScheduler(computation) as scheduler:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(work, scheduler)
            waiting = [await scheduler.schedule(words) for _ in range(SERVERS)]
            assert len({coro.location for coro in waiting}) == SERVERS
            place = waiting[0].location
            assert await scheduler.execute_at(place, own_pid) == await pid_at(computation, place)
            for coro in (*waiting, *others):
                for word in "ab":
                    await coro.send(word)
            await scheduler.finish()
        assert results == [1] * 20
        assert [await coro.result() for coro in waiting] == [["a", "b"]] * SERVERS


# --- structured concurrency over machines


@pytest.mark.spec("B01", "B02")
async def test_an_error_in_a_nursery_cancels_the_rest_and_waits_for_its_clean_up(kind: Kind, tmp_path: Path) -> None:
    async with kind.scheduled(sleep, fail) as computation:
        with pytest.raises(ExceptionGroup) as caught:
            async with computation.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(sleep, tmp_path / f"runs{number}")
                for number in range(4):
                    await until((tmp_path / f"runs{number}").exists)
                nursery.start_soon(fail, "broken")
        assert [repr(error) for error in caught.value.exceptions] == ["ValueError('broken')"]
        assert cleaned(tmp_path) == 4


@pytest.mark.spec("B03")
@pytest.mark.parametrize("function", [block, block_thread])
async def test_what_does_not_react_is_ended_by_replacing_its_server(kind: Kind, tmp_path: Path, function: Any) -> None:
    async with kind.scheduled(block, block_thread, own_pid) as computation:
        before = {await pid_at(computation, place) for place in await computation.servers()}
        coro = await computation.run(function, tmp_path / "blocks")
        await until((tmp_path / "blocks").exists)
        await coro.terminate(grace_period=0.1)
        with pytest.raises((discoro.CoroCancelled, discoro.ServerLost)):
            await coro.result()
        await computation.wait_for_servers(SERVERS)
        after = {await pid_at(computation, place) for place in await computation.servers()}
        assert len(before & after) == SERVERS - 1


@pytest.mark.spec("B04")
async def test_a_remote_error_is_the_original_one_with_the_remote_traceback(kind: Kind) -> None:
    async with kind.scheduled(fail) as computation:
        with pytest.raises(ValueError, match="broken") as caught:
            await computation.run_result(fail, "broken")
        notes = "\n".join(caught.value.__notes__)
        assert "raise ValueError(text)" in notes
        assert any(str(place) in notes for place in await computation.servers())


@pytest.mark.spec("B05")
@pytest.mark.fault("F01")
async def test_a_server_that_dies_is_named_with_its_signal_and_replaced(kind: Kind) -> None:
    async with kind.scheduled(die, own_pid, words) as computation:
        first, second = await computation.servers()
        neighbour = await computation.run_at(second, words)
        with pytest.raises(discoro.ServerLost) as caught:
            await (await computation.run_at(first, die)).result()
        assert (caught.value.location, caught.value.signal) == (first, signal.SIGSEGV)
        await computation.wait_for_servers(SERVERS)
        for word in "ab":
            await neighbour.send(word)
        assert await neighbour.result() == ["a", "b"], "others notice nothing"


@pytest.mark.spec("B11", "B12")
@pytest.mark.fault("F05")
async def test_a_map_gives_all_values_though_a_server_is_lost(kind: Kind, tmp_path: Path) -> None:
    async with kind.scheduled(once) as computation:
        items = [(tmp_path, number) for number in range(40)]
        async with computation.starmap(once, items, retries=2) as results:
            assert [number async for number in results] == list(range(40))


@pytest.mark.spec("B12")
@pytest.mark.fault("F06")
async def test_a_job_that_kills_every_server_is_the_only_one_that_fails(kind: Kind) -> None:
    async with kind.scheduled(die, echo) as computation:
        values: list[object] = []

        async def good() -> None:
            async with computation.map(echo, range(30), retries=3) as results:
                values.extend([value async for value in results])

        async def poison() -> None:
            with pytest.raises(ExceptionGroup) as caught:
                async with computation.starmap(die, [()], retries=1) as results:
                    async for _ in results:
                        pytest.fail("it has a value")
            assert caught.group_contains(discoro.ServerLost)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(good)
            nursery.start_soon(poison)
        assert values == list(range(30))


# --- data


@pytest.mark.spec("B17", "B28", "B29")
async def test_large_values_are_sent_shared_and_may_be_changed(kind: Kind) -> None:
    large = bytearray(b"x" * 3_000_000)

    async def change(value: bytearray) -> bytearray:
        value[0] = 0
        return value

    async def look(shared: discoro.Shared[bytearray], number: int) -> int:
        return len(shared.value) + number

    async with kind.scheduled() as computation:
        for place in await computation.servers():
            changed = await (await computation.run_at(place, change, large)).result()
            assert (changed[0], changed[1:], large[0]) == (0, large[1:], ord("x"))
            changed[1] = 1
        shared = await computation.share(large)
        async with computation.starmap(look, [(shared, number) for number in range(4)]) as results:
            assert [length async for length in results] == [3_000_000 + number for number in range(4)]


@pytest.mark.spec("B13")
async def test_what_is_printed_shows_at_the_client(kind: Kind, capfd: pytest.CaptureFixture[str]) -> None:
    def say(word: str) -> None:
        print(word, flush=True)  # noqa: T201 - as jobs do

    async with kind.scheduled(say) as computation:
        await computation.run_result(say, "heard")
    assert "heard" in "".join(capfd.readouterr())
