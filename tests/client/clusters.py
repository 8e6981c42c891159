"""What the tests of clients share: a cluster on this machine with a computation, and programs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import trio

import discoro_trio as discoro
from tests._deadlines import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def open_computation(
    components: Iterable[object] = (), *, servers: int = 2, seconds: float = 45, **options: Any
) -> AsyncIterator[discoro.Computation]:
    """Schedule a computation on a cluster of its own, for so many seconds at most; all servers are there."""
    computation = discoro.Computation(components, **options)
    with trio.fail_after(seconds):
        async with discoro.open_cluster(servers=servers), computation.schedule():
            await until_servers(computation, servers)
            yield computation


async def until_servers(computation: discoro.Computation, count: int) -> list[discoro.Location]:
    """Wait until the computation has so many servers."""
    while len(servers := await computation.servers()) != count:  # noqa: ASYNC110 (there is no event)
        await trio.sleep(0.005)
    return servers


async def run_script(source: str, folder: Path, *args: str, seconds: float = 100) -> str:
    """Run a program of a file's text, which is `__main__` then; give what it printed."""
    script = folder / "script.py"
    script.write_text(source, encoding="utf-8")
    with trio.fail_after(seconds):
        done = await trio.run_process(
            [sys.executable, "-W", "error", str(script), *args],
            capture_stdout=True,
            cwd=folder,
            env=environment(folder),
        )
    return done.stdout.decode()


def environment(folder: Path) -> dict[str, str]:
    """Give an environment in which all temporary files are below a folder."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}


class Program:
    """A running program, in a process group of its own, that prints a line when it is where the test wants it.

    When the block is left, it has ended, one way or another.
    """

    def __init__(self, command: list[str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(folder),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    async def until_line(self, wanted: Callable[[str], bool]) -> str:
        """Read its output up to the line that is wanted."""
        return await trio.to_thread.run_sync(self._read_until, wanted)

    def _read_until(self, wanted: Callable[[str], bool]) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if wanted(line):
                return line
        raise AssertionError(self.process.stderr and self.process.stderr.read())

    def below(self) -> list[psutil.Process]:
        """Give the processes that it has started, and those that these have."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ended(self) -> tuple[int, str]:
        """Wait for its end; give the status and what it wrote to standard error."""
        _, errors = await trio.to_thread.run_sync(self.process.communicate)
        return self.process.returncode, errors


async def until_gone(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Wait until none of them runs; a zombie that nobody waited for counts as gone."""
    with within(seconds):
        while any(runs(process) for process in processes):  # noqa: ASYNC110 (they are not our children)
            await trio.sleep(0.005)


def runs(process: psutil.Process) -> bool:
    """Tell whether a process runs."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
