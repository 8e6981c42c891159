"""`map(errors=, retry_on=, progress=)`: what a failed item does to the others, and how it is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._client._map import shortened
from discoro_trio._client._progress import ProgressCounts

from .clusters import Program, environment, open_computation

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.spec("B32"), pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


async def invert(number: int) -> float:
    return 1 / number


def invert_in_thread(number: int) -> float:
    return 1 / number


async def give_lock_for_2(number: object) -> object:
    return threading.Lock() if number == 2 else number


async def fail_twice(folder: str, number: int, *, coro: discoro.Coro[int]) -> int:
    """Fail the first two times for even numbers."""
    assert coro.name
    attempts = Path(folder) / f"job-{number}"
    with attempts.open("a") as file:
        file.write("x")
    if number % 2 == 0 and attempts.stat().st_size <= 2:
        message = f"job {number}"
        raise ConnectionError(message)
    return number


def forget(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def described(value: object) -> object:
    return type(value) if isinstance(value, Exception) else value


@pytest.mark.parametrize("job", [invert, invert_in_thread])
@pytest.mark.parametrize("chunksize", [1, 2])
async def test_failed_items_are_collected_or_skipped_one_by_one(job: Callable[..., Any], chunksize: int) -> None:
    items = [1, 0, 2, 4]
    async with open_computation([job]) as computation:
        async with computation.map(job, items, errors="collect", chunksize=chunksize) as results:
            collected = [pair async for pair in results.with_items()]
        async with computation.map(job, items, errors="skip", chunksize=chunksize, ordered=False) as results:
            skipped = {pair async for pair in results.with_items()}
    assert [(item, described(value)) for item, value in collected] == [
        (1, 1.0),
        (0, ZeroDivisionError),
        (2, 0.5),
        (4, 0.25),
    ]
    assert skipped == {(1, 1.0), (2, 0.5), (4, 0.25)}
    where, trace = collected[1][1].__notes__
    assert where.startswith(f"Item 1 of the map: 0, {job.__qualname__} at 127.0.0.1:")
    assert trace.startswith(f"Remote traceback ({job.__qualname__} at 127.0.0.1:")
    assert "return 1 / number" in trace


@pytest.mark.parametrize("chunksize", [1, 2])
async def test_an_item_or_value_that_cannot_be_sent_is_an_error_of_that_item(chunksize: int) -> None:
    async with open_computation([give_lock_for_2]) as computation:
        items = [1, threading.Lock(), 3, 2]
        async with computation.map(give_lock_for_2, items, errors="collect", chunksize=chunksize) as results:
            assert [described(value) async for value in results] == [1, discoro.NotPicklable, 3, discoro.NotPicklable]
        lock = threading.Lock()
        with pytest.raises(ExceptionGroup) as caught:
            async with computation.map(lambda _: lock, items, errors="skip", chunksize=chunksize) as results:
                assert [value async for value in results] == []
        assert caught.group_contains(discoro.NotPicklable)


@pytest.mark.parametrize("chunksize", [1, 3])
async def test_only_failed_items_are_tried_again_and_only_for_the_errors_given(tmp_path: Path, chunksize: int) -> None:
    items = [(str(tmp_path), number) for number in range(4)]
    async with open_computation([fail_twice]) as computation:
        async with computation.starmap(fail_twice, items, retry_on=OSError, chunksize=chunksize) as results:
            assert [value async for value in results] == [0, 1, 2, 3]
        assert [(tmp_path / f"job-{number}").stat().st_size for number in range(4)] == [3, 1, 3, 1]
        forget(tmp_path)
        block = computation.starmap(
            fail_twice, items, retry_on=(OSError, KeyError), retries=1, errors="collect", chunksize=chunksize
        )
        async with block as results:
            assert [described(value) async for value in results] == [ConnectionError, 1, ConnectionError, 3]
        forget(tmp_path)
        with pytest.raises(ExceptionGroup, match="a map failed"):
            async with computation.starmap(fail_twice, items, retry_on=KeyError, chunksize=chunksize) as results:
                await anext(results)
        assert (tmp_path / "job-0").stat().st_size == 1


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"errors": "ignore"}, ValueError, '"raise", "collect" or "skip", not \'ignore\''),
        ({"retry_on": "OSError"}, TypeError, "exception type"),
        ({"retry_on": (OSError, 3)}, TypeError, "exception type"),
    ],
)
async def test_a_wrong_option_is_an_error_at_the_call(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with open_computation([invert], servers=1) as computation:
        with pytest.raises(error, match=text):
            computation.map(invert, [1], **options)


FAILING = """
import trio
import discoro_trio as discoro

def invert(number):
    return 1 / number

async def main():
    async with discoro.open_cluster(servers=2), discoro.Computation([invert]).schedule() as computation:
        async with computation.map(invert, [5, 4, 0, 2]) as results:
            async for _ in results:
                pass

trio.run(main)
"""


def test_the_error_of_one_item_is_short_and_names_the_item_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment(tmp_path), timeout=60
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) <= 20
    assert done.stderr.count("ZeroDivisionError: division by zero") == 1
    assert "Item 2 of the map: 0, invert at 127.0.0.1:" in done.stderr
    assert "return 1 / number" in done.stderr
    assert "Cancelled" not in done.stderr


def test_counts_are_shown_with_failures_and_rate() -> None:
    counts = ProgressCounts("job", 4, started=10.0)
    assert counts.text(10.0) == "job: 0/4 (0%) done, 0 failed, 0.0/s"
    counts.done, counts.failed = 2, 1
    assert counts.text(14.0) == "job: 2/4 (50%) done, 1 failed, 0.5/s, 4 s left"
    assert ProgressCounts("job", None, 0.0).text(1.0) == "job: 0 done, 0 failed, 0.0/s"


def test_an_item_is_shown_on_one_short_line() -> None:
    assert shortened("a\nb" * 100).count("\n") == 0
    assert len(shortened(list(range(10_000)))) < 100
    assert shortened({"key": "value"}) == "{'key': 'value'}"


async def test_without_a_terminal_progress_is_a_line_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    async with (
        open_computation([invert]) as computation,
        computation.map(invert, [1, 0, 2], progress=True, errors="skip") as results,
    ):
        assert [value async for value in results] == [1.0, 0.5]
    assert capfd.readouterr().err.startswith("invert: 3/3 (100%) done, 1 failed, ")


INTERRUPTED = """
import time
import trio
import discoro_trio as discoro

def sleeper(number):
    time.sleep(600)

async def main():
    async with discoro.open_cluster(servers=2), discoro.Computation([sleeper]).schedule() as computation:
        async with computation.map(sleeper, range(4)) as results:
            await computation.run_result(print, "running")
            async for _ in results:
                pass

trio.run(main)
"""


@pytest.mark.parametrize("times", [1, 5])
async def test_ctrl_c_in_a_map_is_one_bare_keyboard_interrupt(tmp_path: Path, times: int) -> None:
    with Program(["-c", INTERRUPTED], tmp_path) as program:
        await program.until_line(lambda line: "running" in line)
        for _ in range(times):
            os.killpg(program.process.pid, signal.SIGINT)
            await trio.sleep(0.1)
        status, errors = await program.ended()
    assert status == -signal.SIGINT
    assert errors.count("Traceback") <= min(times, 2)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert len(errors.splitlines()) <= 30 * min(times, 2)


async def test_a_map_tries_again_only_for_the_errors_given(tmp_path: Path) -> None:
    async with open_computation([fail_twice]) as computation:
        async with computation.map(partial(fail_twice, str(tmp_path)), [0, 1], retry_on=OSError) as results:
            assert [value async for value in results] == [0, 1]
        forget(tmp_path)
        with pytest.raises(ExceptionGroup, match="a map failed"):
            async with computation.map(partial(fail_twice, str(tmp_path)), [0], retry_on=KeyError) as results:
                await anext(results)


async def test_starmap_shows_progress_too(capfd: pytest.CaptureFixture[str]) -> None:
    async with (
        open_computation([divmod]) as computation,
        computation.starmap(divmod, [(7, 2), (9, 4)], progress=True) as results,
    ):
        assert [value async for value in results] == [(3, 1), (2, 1)]
    assert capfd.readouterr().err.startswith("divmod: 2/2 (100%) done, 0 failed, ")
