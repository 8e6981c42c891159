"""Errors of clean-up, and Ctrl-C while something cleans up."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro
from discoro_trio import MonitorException

from .clusters import open_computation, run_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def fail_in_clean_up() -> None:
    try:
        await trio.sleep_forever()
    finally:
        message = "could not save"
        raise OSError(message)


async def stay(folder: str) -> None:
    """Run until it is cancelled, and take a while to clean up."""
    (Path(folder) / "began").touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)
        (Path(folder) / "cleaned").touch()


class Memory:
    """A server's own."""

    words: list[str] = []  # noqa: RUF012 - shared by all jobs of a server on purpose


def leave(word: str) -> tuple[list[str], list[str], int]:
    """Give what others have left in memory and in the working folder, and the process; and leave something."""
    found = list(Memory.words), sorted(path.name for path in Path.cwd().iterdir()), os.getpid()
    Memory.words.append(word)
    Path(word).write_text(word, encoding="utf-8")
    return found


@pytest.mark.spec("S71")
async def test_when_a_computation_is_closed_its_clean_up_is_done_and_the_next_one_finds_nothing_of_it(
    tmp_path: Path,
) -> None:
    component, place = tmp_path / "component.txt", tmp_path / "place"
    component.write_text("sent", encoding="utf-8")
    place.mkdir()
    processes = []
    with trio.fail_after(60):
        async with discoro.open_cluster(servers=1, dest_path=place):
            for word in ("one", "two"):
                async with discoro.Computation([Memory, leave, stay, component]).schedule() as computation:
                    coro = await computation.run(stay, str(tmp_path))
                    words, files, process = await computation.run_result(leave, word)
                    assert (words, files) == ([], ["component.txt"])
                    processes.append(process)
                    await computation.close()
                    assert (tmp_path / "cleaned").exists()
                    (tmp_path / "cleaned").unlink()
                    assert not [path for path in place.rglob("*") if path.name in {word, "component.txt"}]
                    for call in (computation.run, computation.run_result):
                        with pytest.raises(discoro.ComputationClosed):
                            await call(leave, word)
                    with pytest.raises((discoro.ComputationClosed, discoro.CoroCancelled)):
                        await coro.result()
    assert processes[0] != processes[1]


@pytest.mark.spec("B43")
async def test_a_deadline_around_run_result_gives_way_to_the_error_of_the_clean_up() -> None:
    async with open_computation([fail_in_clean_up], servers=1) as computation:
        with pytest.raises(OSError, match="could not save"), trio.move_on_after(0.2):
            await computation.run_result(fail_in_clean_up)


@pytest.mark.spec("B43")
async def test_errors_of_the_clean_up_at_the_end_of_the_block_are_raised_by_it() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="could not save")):
        async with open_computation([fail_in_clean_up], servers=1) as computation:
            await computation.run(fail_in_clean_up)


@pytest.mark.spec("B43")
async def test_they_are_logged_when_the_block_raises_something_else(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError, match="first"):
        async with open_computation([fail_in_clean_up], servers=1) as computation:
            await computation.run(fail_in_clean_up)
            raise KeyError("first")  # noqa: EM101 - as short as that
    assert "could not save" in caplog.text


@pytest.mark.spec("S74", "B43")
async def test_the_end_of_a_coroutine_is_reported_after_its_clean_up_when_the_computation_closes(
    tmp_path: Path,
) -> None:
    ends: list[bool] = []
    computation = discoro.Computation([stay])
    async with (
        trio.open_nursery() as nursery,
        discoro.open_cluster(servers=1),
        computation.subscribe() as events,
    ):

        async def note() -> None:
            async for event in events:
                if isinstance(event, MonitorException):
                    assert isinstance(event.error, discoro.ComputationClosed)
                    ends.append((tmp_path / "cleaned").exists())

        async with computation.schedule():
            nursery.start_soon(note)
            await computation.run(stay, str(tmp_path))
    assert ends == [True]


INTERRUPTED = """
import os, signal, sys, threading, time
import trio
import discoro_trio as discoro
from pathlib import Path

folder, way, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

async def stay():
    (folder / "began").touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        (folder / "cleaned").touch()

def interrupt():
    while not (folder / "began").exists():
        time.sleep(0.01)
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([stay]).schedule() as computation:
        threading.Thread(target=interrupt).start()
        try:
            if way == "run_result":
                await computation.run_result(stay)
            elif way == "nursery":
                async with computation.open_nursery() as nursery:
                    nursery.start_soon(stay)
            else:
                async with computation.starmap(stay, [()]) as results:
                    async for _ in results:
                        pass
        except BaseException as error:
            kind = type(error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error)
            print(kind.__name__, (folder / "cleaned").exists())

trio.run(main)
"""


@pytest.mark.spec("B20")
@pytest.mark.parametrize("way", ["run_result", "nursery", "map"])
@pytest.mark.parametrize("times", [1, 2])
async def test_who_catches_ctrl_c_finds_that_what_it_ended_has_cleaned_up(tmp_path: Path, way: str, times: int) -> None:
    assert await run_script(INTERRUPTED, tmp_path, str(tmp_path), way, str(times)) == "KeyboardInterrupt True\n"
