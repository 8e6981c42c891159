"""Runs the programs as people do: as processes of their own, under a secret and a port of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parents[2]
LOCATION = re.compile(r"listens at (\S+?)[,\s]")
SECRET = "ab" * 32
SECONDS = 120.0


def environment(**more: str) -> dict[str, str]:
    """Give the environment of a program: no file of this user, no secret of this cluster."""
    folder = tempfile.gettempdir()
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DISCORO_SECRET": SECRET,
        "DISCORO_IP_ADDR": "127.0.0.1",
        "XDG_CONFIG_HOME": folder,
        "XDG_STATE_HOME": folder,
        **more,
    }


class Program:
    """One that runs.

    Attributes:
        process: Its process.
        lines: What it has logged.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._output = process.stdout or process.stderr
        self.lines: list[str] = []
        self._rest = b""

    async def says(self, text: str) -> str:
        """Wait for a line that contains a text."""
        assert self._output is not None
        with trio.fail_after(SECONDS):
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                data = await self._output.receive_some()
                assert data, f"it ended without saying {text!r}; it said {self.lines}"
                *whole, self._rest = (self._rest + data).split(b"\n")
                self.lines += [line.decode() for line in whole]

    async def location(self) -> str:
        """Wait until it listens, and say where."""
        found = LOCATION.search(await self.says("listens at") + " ")
        assert found is not None
        return found[1]

    def descendants(self) -> list[psutil.Process]:
        """Give all processes below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    async def ended(self) -> int:
        """Wait for its end, and give its status."""
        with trio.fail_after(SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def running(
    *arguments: str,
    program: Sequence[str] = ("-m", "discoro_trio"),
    read: str = "stderr",
    **variables: str,
) -> AsyncIterator[Program]:
    """Run `python -m discoro_trio`, or another program, with arguments; leaving the block kills it if it still runs.

    Args:
        arguments: Its arguments.
        program: The arguments of Python before them.
        read: "stderr", or "all" for standard output too.
        variables: Environment variables.
    """
    command = [sys.executable, *program, *arguments]
    out, err = (subprocess.PIPE, subprocess.STDOUT) if read == "all" else (None, subprocess.PIPE)
    process = await trio.lowlevel.open_process(command, stdout=out, stderr=err, env=environment(**variables))
    started = Program(process)
    try:
        yield started
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            for stream in filter(None, (process.stdout, process.stderr)):
                await stream.aclose()


async def output(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m discoro_trio` until it ends, and give what it wrote."""
    command = [sys.executable, "-m", "discoro_trio", *arguments]
    with trio.fail_after(SECONDS):
        return await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=environment(**variables)
        )
