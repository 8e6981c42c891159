"""What is cancelled half-way leaves nothing behind: neither here, nor at the scheduler, nor at the servers."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import discoro_trio as discoro
from discoro_trio._client._session import Session
from discoro_trio._process import LocalOutcome, Submission
from discoro_trio.testing import check_leaks
from tests._deadlines import Stopwatch

from .clusters import open_computation, until_servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def wait_for_file(path: str) -> None:
    """Hold a server's set-up up."""
    while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240, PTH110 - of another process
        await trio.sleep(0.01)


async def running_here(*, coro: discoro.Coro[list[str]]) -> list[str]:
    """Name the coroutines of this server, but for this one, that still have a task."""
    from discoro_trio._process import current_process  # noqa: PLC0415 - at the server
    from discoro_trio._process.execution._task_pool import IDLE  # noqa: PLC0415

    runner = current_process().runner.nursery
    assert runner is not None
    nurseries = [runner, *(nursery for task in runner.child_tasks for nursery in task.child_nurseries)]
    tasks = {task for nursery in nurseries for task in nursery.child_tasks} - {trio.lowlevel.current_task()}
    return [task.name for task in tasks if task.name != IDLE]


async def note_and_wait(path: str) -> None:
    """Note the start and the end of the clean-up."""
    with open(path, "a") as file:  # noqa: ASYNC230, PTH123
        file.write("began ")
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        with open(path, "a") as file:  # noqa: ASYNC230, PTH123
            file.write("cleaned-up ")


async def hold_the_server(begun: str, go: str) -> None:
    """Let a server do nothing else until a file is there."""
    with open(begun, "w"):  # noqa: ASYNC230, PTH123
        pass
    while not os.path.exists(go):  # noqa: ASYNC240, PTH110
        time.sleep(0.01)  # noqa: ASYNC251 - that is what it is for


async def never_receive(client: discoro.Coro[None], *, coro: discoro.Coro[int]) -> int:
    """Receive nothing until told to by another coroutine's message; then count what is there."""
    await client.send(coro)
    while not hasattr(sys, "go_on"):  # noqa: ASYNC110 - another coroutine could reach no event of this one
        await trio.sleep(0.01)
    count = 0
    while await coro.receive() != "last":
        count += 1
    return count


def texts_in(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.iterdir()]


async def go_on() -> None:
    sys.go_on = True  # type: ignore[attr-defined]


async def block(client: discoro.Coro[None]) -> None:
    await client.deliver("blocks")
    time.sleep(60)  # noqa: ASYNC251 - that is what is tested


async def wait(client: discoro.Coro[None]) -> None:
    await client.send("waits")
    await trio.sleep_forever()


@pytest.mark.spec("B02")
async def test_a_run_that_waits_for_a_server_leaves_nothing_when_cancelled(tmp_path: Path) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"

    async with discoro.open_cluster(servers=1):
        computation = discoro.Computation([note_and_wait, running_here, wait_for_file], server_setup=_held(go))
        with trio.fail_after(45):
            async with computation.schedule(servers=0):
                for _ in range(3):
                    with trio.move_on_after(0.05) as scope:
                        await computation.run(note_and_wait, str(mark))
                    assert scope.cancelled_caught
                assert computation.statistics().waiting == 0
                go.touch()
                assert await computation.run_result(running_here) == []
                assert not mark.exists()


def _held(go: Path) -> Callable[[], Awaitable[None]]:
    path = str(go)

    async def held() -> None:
        await wait_for_file(path)

    return held


@pytest.mark.spec("B02")
async def test_a_run_that_waits_for_the_word_of_its_server_has_cleaned_up_when_cancelled(tmp_path: Path) -> None:
    mark, begun, go = tmp_path / "mark", tmp_path / "begun", tmp_path / "go"
    components = [note_and_wait, running_here, hold_the_server]
    async with open_computation(components, servers=1) as computation, trio.open_nursery() as nursery:
        (server,) = await until_servers(computation, 1)
        nursery.start_soon(computation.run_result, hold_the_server, str(begun), str(go))
        while not begun.exists():  # noqa: ASYNC110 - of another process
            await trio.sleep(0.005)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as runs:
                # At this very server, as it would wait here otherwise until the server has room for it.
                runs.start_soon(computation.run_at, server, note_and_wait, str(mark))
                while computation.statistics().submitted < 2:  # noqa: ASYNC110 - there is no event
                    await trio.sleep(0.005)
                scope.cancel()
                go.touch()
        assert await computation.run_result(running_here) == []
        assert not mark.exists() or mark.read_text() == "began cleaned-up "


@pytest.mark.spec("B02")
async def test_a_map_cancelled_half_way_leaves_no_task_and_no_job(tmp_path: Path) -> None:
    async with open_computation([note_and_wait, running_here], servers=2) as computation:
        marks = [str(tmp_path / str(number)) for number in range(100)]
        async with check_leaks():
            with trio.CancelScope() as scope:
                async with computation.map(note_and_wait, marks, limit=20):
                    while len(texts_in(tmp_path)) < 20:  # noqa: ASYNC110 - of other processes
                        await trio.sleep(0.01)
                    scope.cancel()
                    await trio.sleep_forever()
        assert texts_in(tmp_path) == ["began cleaned-up "] * 20
        for rcoro in await computation.run_servers(running_here):
            assert await rcoro.result() == []


@pytest.mark.spec("B02", "B06")
async def test_a_deliver_that_waits_for_room_was_not_sent_when_cancelled_and_the_next_one_arrives() -> None:
    async with (
        open_computation([never_receive, go_on], servers=1) as computation,
        discoro.open_coro() as client,
    ):
        rcoro = await computation.run(never_receive, client)
        await client.receive()
        window = discoro.config.mailbox_messages
        for number in range(window):
            await rcoro.send(number)
        async with check_leaks():
            for _ in range(3):
                with trio.move_on_after(0.05) as scope:
                    await rcoro.deliver("too much")
                assert scope.cancelled_caught
        await computation.run_result(go_on)
        await rcoro.deliver("last")
        assert await rcoro.result() == window


@pytest.mark.spec("S57", "B02")
async def test_a_schedule_that_waits_in_the_queue_leaves_nothing_when_cancelled() -> None:
    async with open_computation([running_here]) as computation:
        assert len(await until_servers(computation, 2)) == 2
        async with check_leaks():
            for _ in range(3):
                with trio.move_on_after(0.05) as scope:
                    async with discoro.Computation([running_here]).schedule():
                        pytest.fail("its turn came while another one runs")
                assert scope.cancelled_caught
        await computation.close()
        async with discoro.Computation([running_here]).schedule() as second:
            assert await second.run_result(running_here) == []


@pytest.mark.spec("B03")
async def test_blocked_code_whose_owner_is_cancelled_is_replaced_after_the_grace_period_and_neighbours_hear_why() -> (
    None
):
    async with (
        open_computation([block, wait], servers=1, grace_period=0.3) as computation,
        discoro.open_coro() as client,
    ):
        neighbour = await computation.run(wait, client)
        await client.receive()
        watch = Stopwatch()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(computation.run_result, block, client)
                await client.receive()
                scope.cancel()
        assert watch.seconds >= 0.3
        assert watch.undisturbed < 5
        with pytest.raises(discoro.ServerLost, match="did not end in its grace period"):
            await neighbour.result()
        assert len(await until_servers(computation, 1)) == 1


@pytest.mark.spec("B03")
async def test_a_plain_cancel_never_ends_a_server() -> None:
    async with (
        open_computation([wait_for_file, wait], servers=1, grace_period=0.1) as computation,
        discoro.open_coro() as client,
    ):
        (server,) = await computation.servers()
        stubborn = await computation.run(_stubborn, client)
        assert await client.receive() == "holds out"
        stubborn.cancel()
        assert await client.receive() == "shielded"
        with trio.move_on_after(0.5):
            await stubborn.wait()
        assert await computation.servers() == [server]
        await stubborn.send("end")
        with pytest.raises(discoro.CoroCancelled):
            await stubborn.result()
        assert await computation.servers() == [server]


async def _stubborn(client: discoro.Coro[None], *, coro: discoro.Coro[None]) -> None:
    try:
        await client.send("holds out")
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await client.send("shielded")
            await coro.receive()


async def _say_how_it_ends(client: discoro.Coro[None]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await client.deliver("cleaned up")


@pytest.mark.spec("B02")
async def test_a_coroutine_whose_handle_was_given_has_begun_and_cleans_up() -> None:
    async with open_computation([_say_how_it_ends], servers=1) as computation, discoro.open_coro() as client:
        for _ in range(400):
            (await computation.run(_say_how_it_ends, client)).cancel()
            with trio.fail_after(60):
                assert await client.receive() == "cleaned up"


@pytest.mark.spec("B02")
async def test_a_cancel_reaches_no_coroutine_that_runs_after_the_cancelled_one() -> None:
    async with (
        open_computation([wait, _pass_checkpoints], servers=1) as computation,
        discoro.open_coro() as client,
    ):
        for _ in range(20):
            waiting = await computation.run(wait, client)
            await client.receive()
            waiting.cancel("enough")
            with pytest.raises(discoro.CoroCancelled, match="enough"):
                await waiting.result()
            assert await computation.run_result(_pass_checkpoints) == "undisturbed"


@pytest.mark.spec("B02")
async def test_what_a_cancelled_coroutine_raises_beside_its_cancellation_is_its_error() -> None:
    async with (
        open_computation([_break_in_clean_up], servers=1) as computation,
        discoro.open_coro() as client,
    ):
        broken = await computation.run(_break_in_clean_up, client)
        await client.receive()
        broken.cancel()
        with pytest.raises(ExceptionGroup) as raised:
            await broken.result()
        assert [repr(error) for error in raised.value.exceptions] == ["ValueError('broken')"]


@pytest.mark.spec("B02")
async def test_a_coroutine_whose_tasks_are_all_cancelled_is_cancelled_for_the_reason_given() -> None:
    async with (
        open_computation([_wait_in_nursery], servers=1) as computation,
        discoro.open_coro() as client,
    ):
        waiting = await computation.run(_wait_in_nursery, client)
        await client.receive()
        waiting.cancel("enough")
        with pytest.raises(discoro.CoroCancelled, match="enough"):
            await waiting.result()


async def _wait_in_nursery(client: discoro.Coro[None]) -> None:
    async def break_off() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("all of it", [cancelled]) from None  # noqa: EM101, TRY003

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_off)
        await client.send("waits")


async def _pass_checkpoints() -> str:
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    return "undisturbed"


async def _break_in_clean_up(client: discoro.Coro[None]) -> None:
    async def break_in_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("broken")  # noqa: EM101

    async with trio.open_nursery() as nursery:
        nursery.start_soon(break_in_clean_up)
        await client.send("waits")
        await trio.sleep_forever()


async def _wait_in_a_nursery(*, coro: discoro.Coro[None]) -> None:
    async with trio.open_nursery():
        await coro.receive()


@pytest.mark.spec("B02")
async def test_a_coroutine_that_waits_in_a_nursery_ends_silently_with_its_computation() -> None:
    async with open_computation([_wait_in_a_nursery], servers=1) as computation:
        await computation.run(_wait_in_a_nursery)


async def test_what_is_cancelled_has_the_grace_period_before_its_server_is_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    started = Submission(b"server", 1, "job", None)
    replaced: list[tuple[bytes, float]] = []

    async def replace(server_id: bytes, _reason: str) -> None:
        await trio.lowlevel.checkpoint()
        replaced.append((server_id, round(trio.current_time() - began, 6)))
        started.end(LocalOutcome.returned(None))

    session: Any = SimpleNamespace(set_up=SimpleNamespace(grace_period=7.5), replace=replace)
    began = trio.current_time()
    await Session._until_ended(session, [started])
    assert replaced == [(b"server", 7.5)]
