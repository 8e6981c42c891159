"""`Executor`: the interface of `concurrent.futures`, cancelling of what runs, and the end of the program."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, as_completed, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro

from .clusters import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.spec("B33"), pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


def open_executor() -> discoro.Executor:
    return discoro.Executor(servers=2, grace_period=0.5, components=[Unopenable])


class Unopenable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def double(number: int) -> int:
    return 2 * number


async def double_async(number: int) -> int:
    return 2 * number


def client_is_imported(_: int) -> bool:
    return "discoro_trio._client" in sys.modules


def sleep_forever() -> None:
    while True:
        time.sleep(1)


async def wait_and_clean_up(folder: str) -> None:
    await trio.Path(folder, "runs").touch()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.Path(folder, "cleaned up").touch()


def touch_and_sleep(folder: str) -> str:
    Path(folder, "runs").touch()
    time.sleep(0.5)
    return "slept"


def until_exists(path: Path, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


def test_functions_of_both_kinds_run_and_map_gives_values_in_order() -> None:
    with open_executor() as executor:
        assert executor.submit(double, 4).result() == 8
        assert executor.submit(double_async, number=4).result() == 8
        for function in (double, double_async):
            assert list(executor.map(function, range(10), chunksize=3)) == [2 * number for number in range(10)]
        assert list(executor.map(pow, range(4), range(9))) == [pow(number, number) for number in range(4)]


def test_a_server_imports_nothing_of_the_client_for_a_chunk() -> None:
    with open_executor() as executor:
        assert not any(executor.map(client_is_imported, range(8), chunksize=2))


def meet_at_the_end(number: int, quick: int, folder: Path) -> int:
    """Return at once; those that are not quick wait until two of them have begun."""
    if number < quick:
        time.sleep(0.0003)
        return number
    (folder / str(number)).mkdir()
    end = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < end, "the other one waits behind this one"
        time.sleep(0.001)
    return number


async def meet_at_the_end_async(number: int, quick: int, folder: Path) -> int:
    return meet_at_the_end(number, quick, folder)


def test_the_last_of_many_jobs_do_not_wait_behind_each_other(tmp_path: Path) -> None:
    with open_executor() as executor:
        for attempt in range(3):
            (folder := tmp_path / str(attempt)).mkdir()
            futures = [executor.submit(meet_at_the_end_async, number, 300, folder) for number in range(302)]
            assert [future.result() for future in futures] == [*range(302)]


def test_map_with_a_buffer_reads_the_input_as_values_are_taken() -> None:
    with open_executor() as executor:
        read = 0

        def numbers() -> Iterator[int]:
            nonlocal read
            for number in range(20):
                read += 1
                yield number

        values = executor.map(double, numbers(), buffersize=3)
        assert read == 3
        assert [next(values), next(values)] == [0, 2]
        assert read == 5
        assert list(values) == [2 * number for number in range(2, 20)]
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="buffersize"):
                executor.map(double, [1], buffersize=wrong)
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(double, [1], chunksize=0)


def test_what_cannot_be_sent_or_opened_is_the_error_of_its_future() -> None:
    with open_executor() as executor:
        with pytest.raises(discoro.NotPicklable):
            executor.submit(double, threading.Lock()).result()
        with pytest.raises(discoro.NotPicklable):
            executor.submit(threading.Lock).result()
        with pytest.raises(ValueError, match="no number"):
            executor.submit(double, Unopenable()).result()
        with pytest.raises(ValueError, match="no number"):
            executor.submit(Unopenable).result()
        with pytest.raises(TypeError, match=r"double_async\(…\) was called"):
            executor.submit(double_async(1))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a job can open one of its own"):
            pickle.dumps(executor)
        with pytest.raises(discoro.NotPicklable, match=r"Executor \(at \[0\] .* a job can open one of its own"):
            executor.submit(double, executor).result()


def test_a_lost_server_fails_its_job_and_the_executor_goes_on() -> None:
    with open_executor() as executor:
        lost = executor.submit(os._exit, 3)
        with pytest.raises(discoro.ServerLost) as caught:
            lost.result()
        assert caught.value.exitcode == 3
        assert executor.submit(double, 1).result() == 2


def test_cancelling_a_future_that_runs_cancels_the_coroutine(tmp_path: Path) -> None:
    with open_executor() as executor:
        future = executor.submit(wait_and_clean_up, str(tmp_path))
        until_exists(tmp_path / "runs")
        assert future.running()
        assert future.cancel()
        assert future.cancelled()
        assert wait([future], return_when=FIRST_COMPLETED).done == {future}
        until_exists(tmp_path / "cleaned up")
        assert not executor.submit(double, 1).cancelled()


def test_a_plain_function_that_is_cancelled_gives_its_server_back_after_the_grace_period() -> None:
    with open_executor() as executor:
        futures = [executor.submit(sleep_forever) for _ in range(2)]
        waiting = executor.submit(double, 21)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert all(future.cancel() for future in futures)
        assert waiting.result(timeout=30) == 42


def test_as_many_jobs_run_at_once_as_there_are_servers() -> None:
    with open_executor() as executor:
        futures = [executor.submit(time.sleep, 0.3) for _ in range(4)]
        next(as_completed(futures))
        assert sum(future.running() for future in futures) <= 2
        assert futures[3].cancel()


async def test_asyncio_and_trio_use_it() -> None:
    with open_executor() as executor:

        async def main() -> int:
            return await asyncio.get_running_loop().run_in_executor(executor, double, 2)

        assert await trio.to_thread.run_sync(asyncio.run, main()) == 4
        assert await trio.to_thread.run_sync(executor.submit(double, 3).result) == 6


def fail() -> None:
    message = "not here"
    raise ValueError(message)


def test_if_the_initializer_fails_everywhere_the_executor_is_broken() -> None:
    with discoro.Executor(servers=1, initializer=fail) as executor:
        with pytest.raises(BrokenExecutor, match="not here"):
            executor.submit(double, 1).result()  # or `submit` itself, if the set-up has failed already
        with pytest.raises(BrokenExecutor, match="not here"):
            executor.submit(double, 1)


def read_environment() -> str:
    return subprocess.run(["printenv", "DISCORO_TEST"], capture_output=True, text=True, check=True).stdout.strip()


def test_the_initializer_runs_on_each_server() -> None:
    with discoro.Executor(servers=1, initializer=os.putenv, initargs=("DISCORO_TEST", "set")) as executor:
        assert executor.submit(read_environment).result() == "set"


def test_shutdown_waits_for_the_jobs_and_leaves_no_thread() -> None:
    executor = discoro.Executor(servers=1)
    futures = [executor.submit(time.sleep, 0.1) for _ in range(3)]
    executor.shutdown()
    assert all(future.done() and not future.cancelled() for future in futures)
    assert not [thread for thread in threading.enumerate() if thread.name == "discoro loop"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)


def test_cancel_futures_cancels_what_waits_and_not_what_runs(tmp_path: Path) -> None:
    executor = discoro.Executor(servers=1)
    running = executor.submit(touch_and_sleep, str(tmp_path))
    waiting = [executor.submit(double, 1) for _ in range(10)]
    until_exists(tmp_path / "runs")
    executor.shutdown(cancel_futures=True)
    assert running.result() == "slept"
    assert all(future.cancelled() for future in waiting)


def test_an_executor_without_references_ends_after_its_jobs() -> None:
    executor = discoro.Executor(servers=1)
    values = executor.map(double, range(5))
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "discoro loop")
    del executor
    gc.collect()
    assert list(values) == [0, 2, 4, 6, 8]
    thread.join(30)
    assert not thread.is_alive()


def test_a_wrong_address_or_option_is_an_error_of_the_call() -> None:
    with pytest.raises(discoro.SchedulerNotFound):
        discoro.Executor("127.0.0.1:1", timeout=1)
    with pytest.raises(ValueError, match="servers"):
        discoro.Executor(servers=0)
    with pytest.raises(ValueError, match="jobs_per_server"):
        discoro.Executor(jobs_per_server=0)
    with pytest.raises(TypeError, match="no_such_option"):
        discoro.Executor(no_such_option=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option grace_priod; did you mean grace_period"):
        discoro.Executor(grace_priod=1)  # type: ignore[call-arg]


def test_options_of_other_executors_are_answered_with_those_to_write() -> None:
    with pytest.raises(TypeError, match="no option max_workers; servers= sets the number of servers"):
        discoro.Executor(max_workers=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option mp_context; leave it out"):
        discoro.Executor(mp_context=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="must be an address, not 4; servers= sets the number of servers"):
        discoro.Executor(4)  # type: ignore[arg-type]


def call_unlisted() -> int:
    return double(1)


def test_nothing_but_what_is_listed_is_sent_with_automatic_false() -> None:
    with (
        discoro.Executor(servers=1, components=[call_unlisted], automatic=False) as executor,
        pytest.raises(NameError, match="double"),
    ):
        executor.submit(call_unlisted).result()


LEFT_OPEN = """
import time
import discoro_trio as discoro

def late():
    time.sleep(0.5)
    print("apple", flush=True)

executor = discoro.Executor(servers=1)
executor.submit(late)
if {interrupted}:
    executor.submit(time.sleep, 600)
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize("interrupted", ["", "yes"])
async def test_at_the_end_of_the_program_jobs_are_waited_for_unless_it_was_ctrl_c(
    tmp_path: Path, interrupted: str
) -> None:
    if interrupted:
        start = time.monotonic()
        with pytest.raises(Exception, match="SIGINT"):
            await run_script(LEFT_OPEN.format(interrupted=True), tmp_path, seconds=60)
        assert time.monotonic() - start < 60
    else:
        printed = await run_script(LEFT_OPEN.format(interrupted=False), tmp_path, seconds=60)
        assert printed.endswith(" apple\n")


@pytest.mark.parametrize("block", [discoro.Executor, discoro.connect])
async def test_jobs_run_at_a_shared_scheduler(block: Any) -> None:
    secret = "5" * 64

    def use(address: str) -> int:
        with block(address, secret=secret, ip_addr="127.0.0.1", servers=1) as executor:
            return int(executor.submit(double, 8).result())

    async with discoro.open_cluster(servers=1, secret=secret) as scheduler:
        with trio.fail_after(60):
            assert await trio.to_thread.run_sync(use, str(scheduler.location)) == 16


def total(shared: discoro.Shared[list[int]]) -> int:
    return sum(shared.value)


def test_a_shared_value_is_freed_on_request() -> None:
    with open_executor() as executor:
        shared = executor.share([1, 2, 3])
        assert executor.submit(total, shared).result() == 6
        executor.release(shared)
        with pytest.raises(discoro.NotPicklable, match="was released"):
            executor.submit(total, shared).result()


async def meet(folder: str, mine: str, other: str) -> str:
    await trio.Path(folder, mine).touch()
    with trio.fail_after(30):
        while not await trio.Path(folder, other).exists():  # noqa: ASYNC110 - another job makes it
            await trio.sleep(0.01)
    return mine


@pytest.mark.parametrize("block", [discoro.Executor, discoro.connect])
def test_a_server_runs_as_many_jobs_at_once_as_it_may(block: Any, tmp_path: Path) -> None:
    with block(servers=1, jobs_per_server=2) as opened:
        both = [opened.submit(meet, str(tmp_path), *names) for names in (("a", "b"), ("b", "a"))]
        assert [future.result() for future in both] == ["a", "b"]
