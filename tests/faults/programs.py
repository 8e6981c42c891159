"""Schedulers, nodes and clients as programs of their own, with pulses of a second, that can be killed and stopped.

They find each other in one of two ways, which most tests try both.
"""

from __future__ import annotations

import enum
import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from tests._ports import free_udp_port
from tests.client.clusters import Program, until_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import psutil

SECRET = "the secret of the faults"
PULSE = 1.0


class Way(enum.Enum):
    """How programs find each other."""

    DISCOVERY = "discovery"
    """As by default: any port, and nobody has an address."""
    ADDRESSES = "addresses"
    """Without discovery: nodes and clients have the address of the scheduler, which keeps its port."""


BOTH_WAYS = pytest.mark.parametrize(
    "way",
    [Way.DISCOVERY, pytest.param(Way.ADDRESSES, marks=pytest.mark.soak)],
    ids=lambda way: way.value,
)

HEAD = f"""
import json, os, sys, trio
import discoro_trio as discoro

discoro.config.MinPulseInterval = {PULSE}
discoro.config.MsgTimeout = 5.0
ENDPOINT = json.loads(sys.argv.pop(1))
OPTIONS = dict(discover="udp_port" in ENDPOINT, **ENDPOINT)
"""

SCHEDULER = f"""{HEAD}
ports = sys.argv[1] if sys.argv[1] != "0" else None

async def main():
    async with discoro.open_scheduler(shared=True, tcp_ports=ports, **OPTIONS) as scheduler:
        print("ready", scheduler.location, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""

NODE = f"""{HEAD}
nodes = [] if OPTIONS["discover"] else [sys.argv[2]]

async def main():
    async with discoro.open_node(cpus=int(sys.argv[1]), nodes=nodes, name=sys.argv[3], **OPTIONS) as node:
        print("ready", node.location, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


class Programs:
    """The programs of one test; all of them are killed at its end.

    Attributes:
        endpoint: The options of the endpoint of each program.
    """

    def __init__(self, folder: Path, way: Way) -> None:
        self._folder = folder
        self._number = 0
        self._way = way
        self.running: list[Program] = []
        self.endpoint: dict[str, Any] = {"ip_addr": "127.0.0.1", "secret": SECRET}
        if way is Way.DISCOVERY:
            self.endpoint["udp_port"] = free_udp_port()

    def start(self, source: str, *arguments: str) -> Program:
        """Start a program, without waiting for it."""
        self._number += 1
        script = self._folder / f"program{self._number}.py"
        script.write_text(source, encoding="utf-8")
        program = Program([str(script), json.dumps(self.endpoint), *arguments], self._folder)
        self.running.append(program)
        return program

    async def ready(self, source: str, *arguments: str) -> tuple[Program, discoro.Location]:
        """Start a program, and wait until it says where it listens."""
        program = self.start(source, *arguments)
        line = await program.until_line(lambda line: line.startswith("ready "))
        return program, discoro.Location.parse(line.split()[1])

    async def scheduler(self, last: discoro.Location | None = None) -> tuple[Program, discoro.Location]:
        """Start a shared scheduler, perhaps in place of one that was at a location."""
        port = 0 if last is None or self._way is Way.DISCOVERY else last.port
        return await self.ready(SCHEDULER, str(port))

    async def node(self, scheduler: discoro.Location, *, servers: int = 1, name: str = "node") -> Program:
        """Start a node that joins a scheduler."""
        program, _ = await self.ready(NODE, str(servers), str(scheduler), name)
        return program

    def wanted(self, scheduler: discoro.Location) -> discoro.Location | None:
        """Give the argument of `schedule()`."""
        return None if self._way is Way.DISCOVERY else scheduler

    @asynccontextmanager
    async def client(
        self, scheduler: discoro.Location, *components: object, **options: Any
    ) -> AsyncIterator[discoro.Computation]:
        """Be a client of a scheduler, with an endpoint of its own."""
        computation = discoro.Computation(components, **options)
        async with discoro.open_endpoint(**self.endpoint), computation.schedule(self.wanted(scheduler)):
            yield computation

    async def end(self) -> None:
        """Kill what still runs, and everything below it."""
        below: list[psutil.Process] = []
        for program in self.running:
            if program.process.poll() is None:
                below += program.below()
                program.process.send_signal(signal.SIGCONT)
                program.process.kill()
            await program.ended()
        await until_gone(below, seconds=5)


@asynccontextmanager
async def open_programs(folder: Path, way: Way = Way.DISCOVERY, *, seconds: float = 150) -> AsyncIterator[Programs]:
    """Give a place for programs, for so many seconds at most; none of them survives the block."""
    programs = Programs(folder, way)
    try:
        with trio.fail_after(seconds):
            yield programs
    finally:
        with trio.CancelScope(shield=True):
            await programs.end()
