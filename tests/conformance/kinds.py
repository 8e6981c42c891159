"""The kinds of cluster that a client may have, each with two servers and the options that people have by default.

- embedded: `open_cluster()` in the client.
- private: a scheduler in the client, which finds two `discoronode` programs.
- shared: a `discoro` program, which finds two `discoronode` programs and which the client finds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_tcp_port, free_udp_port
from tests.cli.programs import ROOT, SECONDS, SECRET, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KINDS = ("embedded", "private", "shared")
SERVERS = 2
TOKEN = "the token of these tests"
_MONITOR = re.compile(r"https?://\S+")


class Kind:
    """A kind of cluster, whose programs run.

    Attributes:
        name: One of `KINDS`.
        udp_port: The port by which its programs find each other.
        monitor: The address of the scheduler's own monitor, if the scheduler is a program.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.udp_port = free_udp_port()
        self.monitor: str | None = None
        self._folder = folder
        self._programs: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def running(self) -> Iterator[Kind]:
        """Run its programs."""
        with ExitStack() as stack:
            stack.callback(self._end)
            if self.name == "shared":
                port = free_tcp_port()
                self._start("scheduler", "--http_port", str(port), "--http_token", TOKEN)
                self.monitor = f"http://127.0.0.1:{port}/"
            if self.name != "embedded":
                for number in range(SERVERS):
                    self._start(f"node{number}", program=["node", "-c", "1"])
            yield self

    def _start(self, name: str, *options: str, program: list[str] | None = None) -> None:
        log = self._folder / f"{self.name}-{name}.log"
        command = [sys.executable, "-m", "discoro_trio", *(program or []), "-u", str(self.udp_port), *options]
        variables = environment(TMPDIR=str(self._folder))
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=variables, cwd=ROOT)
        self._programs.append(process)
        deadline = time.monotonic() + SECONDS
        while b"listens at" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)

    def _end(self) -> None:
        for process in self._programs:
            process.terminate()
        for process in self._programs:
            process.wait(SECONDS)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[discoro.Scheduler | None]:
        """Open what a client needs, for some minutes at most; yield the scheduler if it is in this program."""
        found: dict[str, Any] = {"ip_addr": "127.0.0.1", "secret": SECRET, "udp_port": self.udp_port}
        with trio.fail_after(SECONDS):
            if self.name == "embedded":
                async with discoro.open_cluster(servers=SERVERS, secret=SECRET) as scheduler:
                    yield scheduler
            elif self.name == "private":
                async with discoro.open_scheduler(**found) as scheduler:
                    yield scheduler
            else:
                async with discoro.open_endpoint(**found):
                    yield None

    @asynccontextmanager
    async def scheduled(self, *components: object) -> AsyncIterator[discoro.Computation]:
        """Schedule a computation with two servers."""
        async with self.place(), discoro.Computation(components).schedule(servers=SERVERS) as computation:
            yield computation


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """Give each kind of cluster."""
    with Kind(request.param, tmp_path_factory.mktemp(request.param)).running() as running:
        yield running
