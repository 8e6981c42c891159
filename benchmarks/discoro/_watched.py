"""A computation's monitor with fifty browsers, one of which never reads."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TOKEN = "a-token-for-figures"  # noqa: S105 - it protects nothing


class Browsers:
    """The program of the browsers."""

    def __init__(self, program: trio.Process) -> None:
        self._program = program

    @asynccontextmanager
    async def watching(self, computation: discoro.Computation) -> AsyncIterator[None]:
        """Open a monitor, and look at it while the block lasts."""
        async with discoro.open_http_server(computation, port=0, token=_TOKEN) as server:
            await self._look(urlsplit(server.url).port or 0)
            yield
            await self._look(0)

    async def _look(self, port: int) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        await self._program.stdin.send_all(b"%d\n" % port)
        await self._program.stdout.receive_some()  # they are ready


@asynccontextmanager
async def open_browsers() -> AsyncIterator[Browsers]:
    """Run the program of the browsers while the block lasts."""
    command = [sys.executable, "-m", "benchmarks.discoro._browsers"]
    async with trio.open_nursery() as nursery:
        program: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        yield Browsers(program)
        assert program.stdin is not None
        await program.stdin.aclose()
