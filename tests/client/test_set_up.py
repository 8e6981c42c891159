"""Set-up functions: once a node, once a server, before its first job; what happens when they fail."""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation, until_servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
    pytest.mark.spec("B10"),
]


def note(folder: Path, text: str) -> None:
    """Write a line into a file that all processes share."""
    with (folder / "notes").open("a") as file:
        file.write(f"{text}\n")


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().split() if path.exists() else []


HELPERS = [note, notes]
"""What set-up functions call has to be there before they run: these are components."""


async def set_node_up(folder: Path) -> None:
    await trio.sleep(0.05)
    note(folder, "node")


async def set_server_up(folder: Path, *, coro: discoro.Coro[Any]) -> None:
    note(folder, f"server-{os.getpid()}")
    os.environ["SET_UP_BY"] = coro.name


def set_server_up_in_thread(folder: Path) -> None:
    note(folder, "thread" if not trio.lowlevel.in_trio_task() else "task")


async def remembered() -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("SET_UP_BY")


async def end_process() -> None:
    os._exit(1)


async def fail(_folder: Path) -> None:
    message = "no licence here"
    raise OSError(message)


async def fail_at_all_but_one(folder: Path) -> None:
    try:
        os.mkdir(folder / "taken")  # noqa: PTH102 (one of the processes gets it)
    except FileExistsError:
        message = "one is enough"
        raise OSError(message) from None


async def fail_the_second_time(folder: Path) -> None:
    note(folder, "set-up")
    if len(notes(folder)) > 1:
        message = "only once"
        raise OSError(message)


async def test_the_node_comes_first_then_each_server_before_its_first_job(tmp_path: Path) -> None:
    async with open_computation(
        HELPERS,
        node_setup=functools.partial(set_node_up, tmp_path),
        server_setup=functools.partial(set_server_up, tmp_path),
    ) as computation:
        found = [await coro.result() for coro in await computation.run_servers(remembered)]
    assert {name for _, name in found} == {"server_setup"}
    first, *others = notes(tmp_path)
    assert first == "node"
    assert sorted(others) == sorted(f"server-{pid}" for pid, _ in found)


def most_at_once(folder: Path) -> int:
    """Give how many calls run at this moment, this one included, after those that can begin have begun."""
    mine = folder / f"running-{threading.get_ident()}"
    mine.touch()
    deadline = time.monotonic() + 1.0
    most = 0
    while time.monotonic() < deadline:
        most = max(most, len(list(folder.glob("running-*"))))
        time.sleep(0.01)
    mine.unlink()
    return most


@pytest.mark.spec("S68")
async def test_no_more_plain_functions_run_at_once_than_threads_says(tmp_path: Path) -> None:
    async with open_computation([most_at_once], servers=1, threads=2) as computation:
        assert max(await computation.run_results(most_at_once, [tmp_path] * 6)) == 2


async def test_a_plain_function_is_run_in_a_thread(tmp_path: Path) -> None:
    async with open_computation(HELPERS, servers=1, server_setup=functools.partial(set_server_up_in_thread, tmp_path)):
        assert notes(tmp_path) == ["thread"]


async def test_a_replacement_repeats_the_server_s_part_before_it_takes_work(tmp_path: Path) -> None:
    async with open_computation(
        HELPERS,
        servers=1,
        node_setup=functools.partial(set_node_up, tmp_path),
        server_setup=functools.partial(set_server_up, tmp_path),
    ) as computation:
        with pytest.raises(discoro.ServerLost):
            await computation.run_result(end_process)
        pid, name = await computation.run_result(remembered)
    assert name == "server_setup"
    assert [line.partition("-")[0] for line in notes(tmp_path)] == ["node", "server", "server"]
    assert notes(tmp_path)[-1] == f"server-{pid}"


@pytest.mark.parametrize("option", ["node_setup", "server_setup"])
async def test_when_it_fails_everywhere_whoever_waits_gets_the_error(
    option: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {option: functools.partial(fail, tmp_path)}
    computation = discoro.Computation(**options)
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=2), computation.schedule():
            for run in (
                lambda: computation.run(remembered),
                lambda: computation.run_result(remembered),
                lambda: computation.run_servers(remembered),
                lambda: computation.run_at("127.0.0.1", remembered),
            ):
                with pytest.raises(discoro.DiscoroError, match=rf"{option} failed at .* server [12] \(127") as caught:
                    await run()
                assert isinstance(caught.value.__cause__, OSError)
            with pytest.raises(ExceptionGroup) as group:
                await computation.run_results(abs, [1])
            assert [type(error) for error in group.value.exceptions] == [discoro.DiscoroError]
            assert computation.statistics().servers == 0
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert logged
    assert "no licence here" in logged[0].getMessage()
    assert "used" in logged[0].getMessage()


async def test_a_server_where_it_fails_is_not_used_and_the_others_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    computation = discoro.Computation(HELPERS, server_setup=functools.partial(fail_at_all_but_one, tmp_path))
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=3), computation.schedule():
            coros = await computation.run_servers(remembered)
            assert len(coros) == 1
            assert [coro.location for coro in coros] == await computation.servers()
    assert caplog.text.count("one is enough") >= 2


async def test_a_restart_whose_set_up_fails_says_so(tmp_path: Path) -> None:
    async with open_computation(
        HELPERS, servers=1, server_setup=functools.partial(fail_the_second_time, tmp_path)
    ) as computation:
        (server,) = await computation.servers()
        with pytest.raises(discoro.DiscoroError, match="only once"):
            await computation.restart_server(server)
        with pytest.raises(discoro.DiscoroError, match="only once"):
            await computation.run(remembered)


async def test_a_node_whose_first_server_ends_meanwhile_is_set_up_by_the_next(tmp_path: Path) -> None:
    async with open_computation(
        HELPERS, servers=2, node_setup=functools.partial(end_process_the_first_time, tmp_path)
    ) as computation:
        await until_servers(computation, 2)
    assert notes(tmp_path) == ["try", "try"]


async def end_process_the_first_time(folder: Path) -> None:
    note(folder, "try")
    if len(notes(folder)) == 1:
        os._exit(1)


async def test_closing_does_not_wait_for_a_set_up(tmp_path: Path) -> None:
    computation = discoro.Computation(HELPERS, server_setup=functools.partial(note_and_sleep, tmp_path))
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=1), computation.schedule(servers=0):
            while not notes(tmp_path):  # noqa: ASYNC110 (another process writes them)
                await trio.sleep(0.005)
    assert notes(tmp_path) == ["began", "cleaned"]


async def note_and_sleep(folder: Path) -> None:
    note(folder, "began")
    try:
        await trio.sleep_forever()
    finally:
        note(folder, "cleaned")


async def test_what_cannot_be_sent_is_said_when_it_is_scheduled(tmp_path: Path) -> None:
    computation = discoro.Computation(node_setup=functools.partial(print, threading.Lock()))
    async with discoro.open_cluster(servers=1):
        with pytest.raises(discoro.NotPicklable):
            async with computation.schedule():
                pass
        async with discoro.Computation().schedule() as other:
            assert await other.run_result(abs, -1) == 1
