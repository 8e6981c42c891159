"""pycos, the old system's successor: dispycos jobs on a node with servers, and messages between tasks.

What runs on the node's servers is shipped as source text and compiled there without this module: these functions use no
name from outside themselves, and their annotations are texts that are not looked up.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from importlib import metadata
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pycos
import pycos.netpycos
from pycos.dispycos import Client

from benchmarks._scale import IN_FLIGHT, MICROSECONDS, WARM_UP, WORKERS, bulk_megabytes_per_second, bulk_payload
from benchmarks.peer_systems._startup import startup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Steps = Generator[Any, Any, Any]

ADDRESS = "127.0.0.1"
PATIENCE = 30.0
"""Seconds that a figure may take beyond its measured time."""


def version() -> str:
    """Return the version of the system."""
    return metadata.version("pycos")


# --- what runs on the servers


def increment(value: int, task: "pycos.Task" = None) -> "Steps":  # noqa: ARG001, UP037
    """Do the least that a job can do."""
    yield None
    return value + 1


def echo(client: "pycos.Task", task: "pycos.Task" = None) -> "Steps":  # noqa: UP037
    """Send back each message until None."""
    while True:
        message = yield task.receive()
        if message is None:
            return
        client.send(message)


def count(client: "pycos.Task", batch: int, task: "pycos.Task" = None) -> "Steps":  # noqa: UP037
    """Count messages until None, and report each full batch to the client."""
    total = 0
    while (yield task.receive()) is not None:
        total += 1
        if total % batch == 0:
            client.send(total)


# --- the client


@contextmanager
def open_node(servers: int) -> Iterator[None]:
    """Run a node on loopback."""
    command = [sys.executable, "-m", "pycos.dispycosnode", "--cpus", str(servers)]
    with tempfile.TemporaryDirectory() as folder:
        node = subprocess.Popen(
            [*command, "--host", ADDRESS, "--daemon", "--clean", "--dest_path", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            yield
        finally:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


def _with_client(
    figure: Callable[..., Steps], function: Callable[..., Steps], *, servers: int, seconds: float
) -> float:
    """Run a figure as a task of a client program that has shipped one function; it gets client, seconds and task."""
    values: list[float] = []
    ended = threading.Event()

    def program(task: Any = None) -> Steps:
        client = Client([function], nodes=[ADDRESS])
        try:
            yield client.schedule()
            values.append((yield from figure(client, seconds, task)))
        finally:
            ended.set()

    with open_node(servers):
        pycos.Pycos(host=ADDRESS)
        pycos.Task(program)
        if not ended.wait(seconds + PATIENCE):
            raise TimeoutError
    return values[0]


def jobs_per_s(seconds: float) -> float:
    """Run remote tasks, so many at once."""

    def caller(client: Any, deadline: float, task: Any = None) -> Steps:  # noqa: ARG001
        jobs = 0
        while perf_counter() < deadline:
            job = yield from client.io_rtask(increment, jobs)
            yield from job()
            jobs += 1
        return jobs

    def counted(client: Any, deadline: float) -> Steps:
        jobs = 0
        for one in [pycos.Task(caller, client, deadline) for _ in range(IN_FLIGHT)]:
            jobs += yield from one()
        return jobs

    def figure(client: Any, duration: float, _task: Any) -> Steps:
        yield from counted(client, perf_counter() + duration * WARM_UP)
        begun = perf_counter()
        jobs = yield from counted(client, begun + duration)
        return jobs / (perf_counter() - begun)

    return _with_client(figure, increment, servers=WORKERS, seconds=seconds)


def job_latency_us(seconds: float) -> float:
    """Run one remote task and wait for it."""

    def timed(client: Any, duration: float) -> Steps:
        durations: list[float] = []
        begun = now = perf_counter()
        while not durations or now - begun < duration:
            before = now
            job = yield from client.io_rtask(increment, 0)
            yield from job()
            now = perf_counter()
            durations.append(now - before)
        return statistics.median(durations)

    def figure(client: Any, duration: float, _task: Any) -> Steps:
        yield from timed(client, duration * WARM_UP)
        return (yield from timed(client, duration)) * MICROSECONDS

    return _with_client(figure, increment, servers=WORKERS, seconds=seconds)


def message_roundtrip_us(seconds: float) -> float:
    """Send a message to a remote task and wait for the answer."""
    return _round_trip(0, seconds) * MICROSECONDS


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Send 64 MiB to a remote task and wait for them to come back."""
    return bulk_megabytes_per_second(_round_trip(bulk_payload(), seconds))


def _round_trip(message: object, seconds: float) -> float:
    def timed(remote: Any, duration: float, task: Any) -> Steps:
        durations: list[float] = []
        begun = now = perf_counter()
        while not durations or now - begun < duration:
            before = now
            remote.send(message)
            yield task.receive()
            now = perf_counter()
            durations.append(now - before)
        return statistics.median(durations)

    def figure(client: Any, duration: float, task: Any) -> Steps:
        remote = yield from client.io_rtask(echo, task)
        yield from timed(remote, duration * WARM_UP, task)
        median = yield from timed(remote, duration, task)
        remote.send(None)
        return median

    return _with_client(figure, echo, servers=1, seconds=seconds)


def messages_per_s(seconds: float) -> float:
    """Send messages in batches, one batch ahead of what the receiver has counted, since `send` has no bound."""

    def sent(remote: Any, deadline: float, task: Any) -> Steps:
        batches = acknowledged = 0
        while perf_counter() < deadline:
            for number in range(IN_FLIGHT):
                remote.send(number)
            batches += 1
            if batches - acknowledged > 1:
                yield task.receive()
                acknowledged += 1
        while acknowledged < batches:
            yield task.receive()
            acknowledged += 1
        return batches * IN_FLIGHT

    def figure(client: Any, duration: float, task: Any) -> Steps:
        remote = yield from client.io_rtask(count, task, IN_FLIGHT)
        yield from sent(remote, perf_counter() + duration * WARM_UP, task)
        begun = perf_counter()
        messages = yield from sent(remote, begun + duration, task)
        took = perf_counter() - begun
        remote.send(None)
        return messages / took

    return _with_client(figure, count, servers=1, seconds=seconds)


def startup_s(seconds: float) -> float:
    """Start a whole program."""
    return startup("with_pycos", seconds)
