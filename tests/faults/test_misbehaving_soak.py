"""Jobs of all kinds that misbehave, and strangers, at random beside a client that must not notice."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest
import trio
import trio.lowlevel

import discoro_trio as discoro
from tests.faults.programs import NODE, open_programs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.clusters import Program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

SECONDS = float(os.environ.get("DISCORO_SOAK_SECONDS", "180"))
"""How long; 3600 for the hour that is meant to be run by hand."""
QUIET_SECONDS = 10.0
ONE = [discoro.NodeAllocation(cpus=1)]
SLEEP = "86399.5"
"""By which what jobs left is known."""
MIB = 1 << 20


def start_processes() -> None:
    for _ in range(40):
        subprocess.Popen(["sleep", SLEEP], start_new_session=True)


def start_daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", SLEEP])  # noqa: S606
        os._exit(0)


def take_memory() -> None:
    import resource  # noqa: PLC0415 - where it runs

    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * MIB, used + 64 * MIB))
    taken = []
    while True:
        taken.append(bytearray(MIB))


def take_descriptors() -> None:
    while True:
        os.dup(0)


def fill_disk() -> None:
    with open("large", "wb") as file:  # noqa: PTH123
        file.writelines(bytes(MIB) for _ in range(64))


def execute() -> None:
    os.execv("/bin/sleep", ["sleep", SLEEP])  # noqa: S606


def close_descriptors() -> None:
    os.closerange(0, 256)


def signal_itself() -> None:
    names = ("SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT", "SIGSTOP", "SIGINT")
    os.kill(os.getpid(), getattr(signal, random.choice(names)))


async def send_garbage() -> None:
    from discoro_trio._process import current_process  # noqa: PLC0415 - where it runs

    for link in list(current_process().endpoint.links.values()):
        with suppress(Exception):
            for _ in range(50):
                link.send(random.randrange(40), random.getrandbits(40), random.randbytes(200), random.randrange(16))
                await trio.lowlevel.checkpoint()


BAD: list[Callable[[], object]] = [
    start_processes,
    start_daemon,
    take_memory,
    take_descriptors,
    fill_disk,
    execute,
    close_descriptors,
    signal_itself,
    send_garbage,
]

STRANGERS = """
import random, socket, sys, time
address = (sys.argv[1], int(sys.argv[2]))
held = []
while True:
    began = time.monotonic()
    for _ in range(10):
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.connect_ex(address)
        held.append(stranger)
    for stranger in random.sample(held, min(len(held), 10)):
        try:
            stranger.send(random.randbytes(random.randrange(1, 2000)))
        except OSError:
            pass
    while len(held) > 200:
        held.pop(random.randrange(len(held))).close()
    time.sleep(max(0.0, began + 0.01 - time.monotonic()))
"""


async def work(number: int) -> int:
    return number


async def measure(computation: discoro.Computation, seconds: float) -> float:
    """Run jobs one after the other; give the 99th percentile of their seconds. None may fail."""
    durations: list[float] = []
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        began = time.perf_counter()
        with trio.fail_after(60):
            assert await computation.run_result(work, len(durations)) == len(durations)
        durations.append(time.perf_counter() - began)
        await trio.sleep(0.005)
    return statistics.quantiles(durations, n=100)[98]


async def misbehave(computation: discoro.Computation) -> None:
    while True:
        with trio.move_on_after(10), suppress(Exception):
            await computation.run_result(random.choice(BAD))


def left() -> list[psutil.Process]:
    return [one for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[1:2] == [SLEEP]]


def size_of(program: Program) -> int:
    size: int = psutil.Process(program.process.pid).memory_info().rss
    return size


@pytest.mark.fault("F28")
@pytest.mark.slow
async def test_half_a_minute_of_jobs_that_misbehave_costs_a_client_beside_them_nothing(tmp_path: Path) -> None:
    await stay_beside(30.0, tmp_path)


@pytest.mark.soak
async def test_a_client_beside_jobs_that_misbehave_loses_nothing_and_waits_little(tmp_path: Path) -> None:
    await stay_beside(SECONDS, tmp_path)


async def stay_beside(seconds: float, folder: Path) -> None:
    async with open_programs(folder, seconds=seconds + 120) as programs:
        _, place = await programs.scheduler()
        node, node_place = await programs.ready(NODE, "2", str(place), "node")
        async with programs.client(place, work, node_allocations=ONE) as good:
            quiet = await measure(good, QUIET_SECONDS)
            before = size_of(node)
            strangers = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-c", STRANGERS, node_place.addr, str(node_place.port)]
            )
            try:
                computation = discoro.Computation(BAD, node_allocations=ONE, grace_period=1.0)
                async with computation.schedule(place), trio.open_nursery() as nursery:
                    nursery.start_soon(misbehave, computation)
                    stormy = await measure(good, seconds)
                    nursery.cancel_scope.cancel()
            finally:
                strangers.kill()
                strangers.wait()
            sys.stdout.write(f"p99 {quiet * 1e3:.1f} ms, then {stormy * 1e3:.1f} ms; node {size_of(node) // MIB} MiB\n")
            assert stormy < max(10 * quiet, 0.2)
            assert size_of(node) - before < 200 * MIB
            with trio.fail_after(45):
                while left():  # noqa: ASYNC110 - there is no event
                    await trio.sleep(0.1)
