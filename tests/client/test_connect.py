"""`connect`: calls that block, the iterator of a map, Ctrl-C, and notebooks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from joblib import Parallel, delayed, parallel_config

import discoro_trio as discoro
from tests._loops import until_closed

from .clusters import Program, run_script
from .notebooks import execute, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def double(number: int) -> int:
    return 2 * number


def invert(number: int) -> float:
    return 1 / number


def own_name(_: int) -> str:
    return discoro.current_coro().name


async def add(left: int, right: int) -> int:
    return left + right


async def sleep_forever(folder: str = "") -> None:
    try:
        if folder:
            await trio.Path(folder, "begun").touch()
        await trio.sleep_forever()
    finally:
        if folder:
            with trio.CancelScope(shield=True):
                await trio.Path(folder, "cleaned up").touch()


async def echo(*, coro: discoro.Coro[None]) -> None:
    async for message, sender in coro:
        await sender.send(2 * message)


def interrupt(seconds: float = 0.5) -> None:
    threading.Timer(seconds, os.kill, [os.getpid(), signal.SIGINT]).start()


def test_calls_block_and_give_values_or_raise_the_bare_error() -> None:
    with discoro.connect(servers=2) as cluster:
        assert cluster.run(double, 4) == 8
        assert cluster.run(add, 1, right=2) == 3
        assert cluster.submit(add, 1, right=2).result() == 3
        assert cluster.call(add, 1, right=2) == 3
        futures = [cluster.submit(double, number) for number in range(4)]
        assert cluster.gather(futures) == [0, 2, 4, 6]
        assert cluster.gather(futures[1]) == 2
        assert cluster.gather(futures[:2], futures[3]) == [[0, 2], 6]
        failing = [cluster.submit(invert, number) for number in (1, 0)]
        with pytest.raises(ZeroDivisionError):
            cluster.gather(failing)
        assert [type(value) for value in cluster.gather(failing, errors="collect")] == [float, ZeroDivisionError]
        assert cluster.gather(failing, errors="skip") == [1.0]
        with pytest.raises(ZeroDivisionError):
            cluster.run(invert, 0)
        assert cluster.computation.statistics().waiting == 0
        assert ">servers</th><td" in cluster._repr_html_()
    assert repr(cluster) == "<discoro cluster: state closed>"
    with pytest.raises(RuntimeError):
        cluster.submit(double, 1)
    with pytest.raises(discoro.ComputationClosed):
        cluster.run(double, 1)


def test_a_map_gives_values_with_or_without_their_items() -> None:
    def numbers() -> Iterator[int]:
        yield from range(100)

    with discoro.connect(servers=2) as cluster:
        assert list(cluster.map(double, range(1000), chunksize=50)) == [2 * number for number in range(1000)]
        assert list(cluster.map(double, numbers())) == [2 * number for number in range(100)]
        assert cluster.gather(cluster.map(add, range(3), [5, 6, 7])) == [5, 7, 9]
        pairs = cluster.map(invert, [1, 0, 2], errors="skip", ordered=False).with_items()
        assert sorted(pairs) == [(1, 1.0), (2, 0.5)]
        values = cluster.map(invert, [1, 0, 2])
        with pytest.raises(ZeroDivisionError) as caught:
            list(values)
        assert caught.value.__notes__[0].startswith("Item 1 of the map: 0, invert at 127.0.0.1:")
        with pytest.raises(ValueError, match="errors must be"):
            cluster.map(double, [1], errors="ignore")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not iterable"):
            cluster.map(double, 5)  # type: ignore[arg-type]


def test_chunks_have_the_name_of_the_function_that_they_call() -> None:
    with discoro.connect(servers=1) as cluster:
        assert set(cluster.map(own_name, range(20))) == {"own_name"}
    with discoro.Executor(servers=1) as executor:
        assert set(executor.map(own_name, range(3))) == {"own_name"}
    with parallel_config(backend="discoro", servers=1):
        assert set(Parallel()(delayed(own_name)(number) for number in range(3))) == {"own_name"}
    until_closed()


def test_a_map_that_is_closed_or_forgotten_cancels_its_jobs(tmp_path: Path) -> None:
    with discoro.connect(servers=1) as cluster:
        values = cluster.map(sleep_forever, [str(tmp_path)])
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        values.close()
        assert (tmp_path / "cleaned up").exists()
        assert list(values) == []
        values = cluster.map(sleep_forever, [""])
        while not cluster.computation.statistics().running:
            time.sleep(0.01)
        del values
        while cluster.computation.statistics().running:
            time.sleep(0.01)


def test_the_computation_is_used_by_calls_that_block() -> None:
    async def ask(number: int) -> Any:
        async with discoro.open_coro() as client:
            coro = await discoro.locate("echo")
            await coro.send((number, client))
            return await client.receive()

    async def register_echo(*, coro: discoro.Coro[None]) -> None:
        coro.register("echo")
        await echo(coro=coro)

    with discoro.connect(servers=1, components=[echo]) as cluster:
        computation = cluster.computation
        coro = computation.run(add, 1, 2)
        assert coro.result() == 3
        with computation.map(double, range(5)) as results:
            assert list(results) == [0, 2, 4, 6, 8]
        with computation.open_nursery() as nursery:
            nursery.start_soon(double, 1)
            assert nursery.run(double, 3).result() == 6
        with pytest.raises(ExceptionGroup), computation.open_nursery() as nursery:
            nursery.start_soon(invert, 0)
        with pytest.raises(ExceptionGroup), computation.open_nursery():
            raise KeyError
        lasting = computation.run(register_echo)
        assert cluster.call(ask, 4) == 8
        lasting.cancel()
        lasting.wait()


def test_the_error_of_a_job_is_shown_without_the_frames_of_threads() -> None:
    with discoro.connect(servers=1) as cluster:
        for call, lines in ((lambda: list(cluster.map(invert, [1, 0])), 20), (lambda: cluster.run(invert, 0), 25)):
            try:
                call()
            except ZeroDivisionError:
                shown = traceback.format_exc()
                assert shown.count("\n") <= lines, shown
                assert "concurrent" not in shown
            else:
                pytest.fail("it raised nothing")


def test_a_cluster_that_a_job_uses_is_refused_with_what_to_send() -> None:
    with discoro.connect(servers=1) as cluster:
        with pytest.raises(discoro.NotPicklable, match=r"a job that starts others takes `cluster\.computation`"):
            cluster.run(repr, cluster)
        assert cluster.run(bool, cluster.computation)


def test_a_large_value_is_shared_and_its_handle_is_sent() -> None:
    with discoro.connect(servers=1) as cluster:
        shared = cluster.share(list(range(1000)))
        assert list(cluster.map(lambda index: shared.value[index], [3, 5])) == [3, 5]
        assert cluster.run(lambda handle: len(handle.value), shared) == 1000
        assert shared.get()[999] == 999
        shared.release()
        with pytest.raises(discoro.DiscoroError):
            cluster.run(lambda handle: len(handle.value), shared)


@pytest.mark.parametrize("what", ["run", "map", "gather", "call"])
def test_ctrl_c_cancels_what_the_call_waits_for_and_nothing_else(what: str) -> None:
    with discoro.connect(servers=2, jobs_per_server=2) as cluster:
        other = cluster.submit(sleep_forever)
        futures = [cluster.submit(sleep_forever) for _ in range(2)] if what == "gather" else []
        calls: dict[str, Callable[[], Any]] = {
            "run": lambda: cluster.run(sleep_forever),
            "map": lambda: list(cluster.map(sleep_forever, [""] * 3)),
            "gather": lambda: cluster.gather(futures),
            "call": lambda: cluster.call(trio.sleep_forever),
        }
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            calls[what]()
        assert all(future.cancelled() for future in futures)
        while cluster.computation.statistics().running > 1:
            time.sleep(0.01)
        assert not other.done()
        assert cluster.run(double, 2) == 4
    with contextlib.suppress(CancelledError):
        assert other.exception() is not None


LEFT_OPEN = """
import discoro_trio as discoro
import time

cluster = discoro.connect(servers=1)
print(cluster.run(abs, -3))
running = cluster.submit(time.sleep, 600)
values = cluster.map(abs, range(3))
"""


async def test_a_cluster_that_is_left_open_ends_with_its_program(tmp_path: Path) -> None:
    assert await run_script(LEFT_OPEN, tmp_path, seconds=60) == "3\n"
    assert os.listdir(tmp_path / "tmp") == []  # noqa: PTH208


INTERRUPTED = """
import time
import discoro_trio as discoro

with discoro.connect(servers=1) as cluster:
    print("running", flush=True)
    list(cluster.map(time.sleep, [600]))
"""


async def test_ctrl_c_ends_a_script_with_one_traceback(tmp_path: Path) -> None:
    with Program(["-c", INTERRUPTED], tmp_path) as program:
        await program.until_line(lambda line: "running" in line)
        await trio.sleep(0.3)
        os.killpg(program.process.pid, signal.SIGINT)
        status, errors = await program.ended()
    assert status == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")


CELLS = [
    """
import os, signal, threading, time
import trio
import discoro_trio as discoro

def double(number):
    return 2 * number

cluster = discoro.connect(servers=2)
cluster
""",
    """
lasting = cluster.submit(time.sleep, 600)
print(cluster.gather(cluster.map(double, range(3), progress=True)))
""",
    """
mine = cluster.submit(time.sleep, 600)
threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    time.sleep(60)
finally:
    print("interrupted")
""",
    """
import asyncio
print(mine.cancelled(), lasting.cancelled(), await asyncio.wrap_future(cluster.submit(double, 4)))
cluster.close()
""",
]


@pytest.mark.spec("B35")
def test_a_notebook_keeps_a_cluster_over_its_cells(tmp_path: Path) -> None:
    outputs = execute(CELLS, tmp_path, failing={2})
    (shown,) = outputs[0]
    assert "<b>discoro cluster</b>" in "".join(shown["data"]["text/html"])
    assert "[0, 2, 4]\n" in texts(outputs[1])
    assert any("double: 3/3 (100%) done, 0 failed" in text for text in texts(outputs[1]))
    assert "interrupted\n" in texts(outputs[2])
    assert outputs[2][-1]["ename"] == "KeyboardInterrupt"
    assert texts(outputs[3]) == ["True False 8\n"]


def count_others(folder: str) -> int:
    with tempfile.NamedTemporaryFile(dir=folder):
        time.sleep(0.1)
        return len(list(Path(folder).iterdir())) - 1


def fail_once(path: str) -> str:
    file = Path(path)
    if not file.exists():
        file.touch()
        raise ConnectionError(path)
    return path


def test_a_map_that_blocks_has_the_options_of_the_other_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with discoro.connect(servers=2) as cluster:
        assert set(cluster.map(count_others, [str(tmp_path)] * 6, limit=1, chunksize=1)) == {0}
        path = str(tmp_path / "one")
        assert list(cluster.map(fail_once, [path], retries=1, retry_on=OSError)) == [path]
        with pytest.raises(ConnectionError):
            list(cluster.map(fail_once, [path + "2"], retries=1, retry_on=KeyError))
        capfd.readouterr()
        assert list(cluster.map(double, [1, 2], progress=True)) == [2, 4]
        assert capfd.readouterr().err.startswith("double: 2/2 (100%) done, 0 failed, ")
        assert cluster.gather([cluster.submit(double, 3)], progress=True) == [6]
        assert capfd.readouterr().err.startswith("gather: 1/1 (100%) done, 0 failed, ")
