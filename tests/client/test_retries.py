"""`map(retries=…)`: jobs that are lost with their servers; and `map(progress=True)`."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro

from .clusters import open_computation, until_servers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


async def die_while_few(folder: str, number: int, times: int) -> int:
    """Note an attempt, and end the server in the first ones."""
    attempts = Path(folder) / f"job-{number}"
    with attempts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(attempts.read_text().splitlines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep(0.01)
    return number


async def fail(number: int) -> int:
    message = f"job {number}"
    raise ValueError(message)


async def overlap(folder: str, number: int) -> list[str]:
    """Die alone or with others; tell which jobs were there at the same time."""
    mine = Path(folder) / f"{os.getpid()}-{number}"
    mine.touch()
    await trio.sleep(0.02)
    attempts = Path(folder) / f"attempts-{number}"
    with attempts.open("a") as file:
        file.write("x")
    there = sorted(name for name in os.listdir(folder) if name.startswith(f"{os.getpid()}-"))  # noqa: PTH208
    if number == 0 and attempts.stat().st_size <= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    await trio.sleep(0.02)
    mine.unlink()
    return there


def attempts(folder: Path, number: int) -> int:
    return len((folder / f"job-{number}").read_text().splitlines())


@pytest.mark.spec("B12")
async def test_a_job_lost_with_its_server_runs_again_and_values_keep_their_order(tmp_path: Path) -> None:
    jobs = [(str(tmp_path), number, 1 if number in {2, 7} else 0) for number in range(12)]
    async with (
        open_computation([die_while_few]) as computation,
        computation.starmap(die_while_few, jobs, retries=5) as results,
    ):
        assert [value async for value in results] == list(range(12))
    assert attempts(tmp_path, 2) >= 2


@pytest.mark.spec("B12")
@pytest.mark.fault("F06")
async def test_a_poison_job_is_tried_no_more_than_retries_and_once_while_the_others_complete(tmp_path: Path) -> None:
    others = [(str(tmp_path), number, 0) for number in range(40)]
    values: list[int] = []

    async def run_others(computation: discoro.Computation) -> None:
        async with computation.starmap(die_while_few, others, retries=3) as results:
            values.extend([value async for value in results])

    async with open_computation([die_while_few]) as computation:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_others, computation)
            with pytest.RaisesGroup(pytest.RaisesExc(discoro.ServerLost, check=lambda error: error.signal == 9)):
                async with computation.starmap(die_while_few, [(str(tmp_path), 99, 100)], retries=3) as results:
                    _ = [value async for value in results]
        await until_servers(computation, 2)
    assert attempts(tmp_path, 99) == 4
    assert values == list(range(40))


@pytest.mark.spec("B12")
async def test_after_two_losses_a_job_runs_alone_on_its_server(tmp_path: Path) -> None:
    jobs = [(str(tmp_path), number) for number in range(30)]
    async with (
        open_computation([overlap]) as computation,
        computation.starmap(overlap, jobs, retries=9, limit=30) as results,
    ):
        there = [names async for names in results]
    assert [name.partition("-")[2] for name in there[0]] == ["0"]


async def lose_two_servers(folder: str) -> str:
    """End the server the first two times."""
    with (Path(folder) / "tries").open("a", encoding="ascii") as file:
        file.write("x")
    if len((Path(folder) / "tries").read_text(encoding="ascii")) < 3:
        os._exit(1)
    return "alone"


@pytest.mark.spec("B12")
async def test_the_server_of_a_job_that_ran_alone_takes_other_jobs_again(tmp_path: Path) -> None:
    async with open_computation([lose_two_servers, os.getpid], servers=1) as computation:
        async with computation.map(lose_two_servers, [str(tmp_path)], retries=3) as results:
            assert [value async for value in results] == ["alone"]
        with trio.fail_after(45):
            assert len({await computation.run_result(os.getpid) for _ in range(3)}) == 1


@pytest.mark.spec("B12")
async def test_errors_of_the_job_itself_are_not_retried() -> None:
    async with open_computation([fail]) as computation:
        with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="job 0")):
            async with computation.map(fail, [0], retries=3) as results:
                _ = [value async for value in results]


@pytest.mark.spec("B12")
async def test_without_retries_a_loss_is_the_error_of_the_map(tmp_path: Path) -> None:
    async with open_computation([die_while_few]) as computation:
        with pytest.RaisesGroup(discoro.ServerLost):
            async with computation.starmap(die_while_few, [(str(tmp_path), 0, 1)]) as results:
                _ = [value async for value in results]
    assert attempts(tmp_path, 0) == 1


async def test_fewer_than_no_retries_are_refused() -> None:
    async with open_computation([fail], servers=1) as computation:
        with pytest.raises(ValueError, match="retries must be 0 or more"):
            async with computation.map(fail, [], retries=-1):
                pass


SHOWN = """
import trio
import discoro_trio as discoro

def job(number):
    return number

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([job]).schedule() as computation:
        async with computation.map(job, range(20), progress=True) as results:
            print(len([value async for value in results]))

if __name__ == "__main__":
    trio.run(main)
"""


@pytest.mark.spec("B23")
async def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SHOWN, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    ours, theirs = pty.openpty()
    try:
        with trio.fail_after(60):
            command = [sys.executable, str(path)]
            on_terminal = await trio.run_process(command, capture_stdout=True, stderr=theirs, env=environment)
            elsewhere = await trio.run_process(command, capture_stdout=True, capture_stderr=True, env=environment)
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert on_terminal.stdout == elsewhere.stdout == b"20\n"
    assert "\x1b[" in shown
    assert "job: 20/20 (100%) done" in shown
    *earlier, last = elsewhere.stderr.decode().splitlines()
    assert last.startswith("job: 20/20 (100%) done, 0 failed, ")
    assert all(re.fullmatch(r"job: \d+/20 .*s left", line) for line in earlier), "there are some on a slow machine"


TORN = """
import logging, sys, trio
import discoro_trio as discoro

async def job(number):
    await trio.sleep(0.05)
    print("printed", number, "x" * 100)
    logging.getLogger("job").warning("logged %d", number)
    return 1 // (number - 3)

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([job]).schedule() as computation:
        async with (
            computation.map(job, range(12), progress=True, errors="skip") as results,
            computation.map(job, range(12), progress=True, errors="skip") as others,
        ):
            print("mine", len([value async for value in results]))
            print("mine", len([value async for value in others]))

logging.basicConfig(format="LOG %(message)s")
trio.run(main)
"""


def on_screen(written: str) -> list[str]:
    """Give the lines of a terminal of 80 columns after what was written, which moves up and erases lines."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", written):
        if part == "\n":
            row += 1
        elif part == "\r":
            column = 0
        elif part.endswith("A") and part.startswith("\x1b"):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            if column == 80:
                row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]


@pytest.mark.spec("B23")
async def test_bars_and_output_share_the_terminal_and_tear_nothing(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(TORN, encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    written = b""

    def read() -> None:
        nonlocal written
        with suppress(OSError):  # the program has ended
            while data := os.read(ours, 65536):
                written += data

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            with trio.fail_after(60):
                command = [sys.executable, str(path)]
                await trio.run_process(command, stdout=theirs, stderr=theirs, env=environment)
            os.close(theirs)
    finally:
        os.close(ours)
    lines = on_screen(written.decode())
    whole = "".join(lines)
    for number in range(12):
        assert whole.count(f"job] printed {number} {'x' * 100}") == 2, "a long line is not cut, either"
        assert sum(line.endswith(f"job] logged {number}") for line in lines) == 2
    assert [line for line in lines if line.startswith("mine")] == ["mine 11", "mine 11"]
    bars = [line for line in lines if "done, " in line]
    assert len(bars) == 2
    assert all("job: 12/12 (100%) done, 1 failed" in line for line in bars)
