"""The dispycos node that every figure is measured on, and the client program around a figure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pycos
import pycos.netpycos
from pycos.dispycos import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

ADDRESS = "127.0.0.1"
PATIENCE = 30.0
"""Seconds that a figure may take beyond its measured time."""


@contextmanager
def _open_node(servers: int) -> Iterator[None]:
    command = [sys.executable, "-m", "pycos.dispycosnode", "--cpus", str(servers)]
    options = ["--host", ADDRESS, "--daemon", "--clean"]
    with tempfile.TemporaryDirectory() as folder:
        node = subprocess.Popen(
            [*command, *options, "--dest_path", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        try:
            yield
        finally:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()


def measure_with_client(
    figure: Callable[..., Generator[Any, Any, float]],
    function: Callable[..., Generator[Any, Any, Any]],
    *,
    seconds: float,
    servers: int,
) -> float:
    """Run a figure as a task of a client program that has shipped one function.

    Args:
        figure: A generator function that is given the client, the seconds, and its task.
        function: What the servers are to run.
        seconds: How long to measure.
        servers: How many server processes.

    Returns:
        What the figure returned.

    Raises:
        TimeoutError: It has not come to an end.
    """
    values: list[float] = []
    ended = threading.Event()

    def program(task: Any = None) -> Generator[Any, Any, None]:
        client = Client([function], nodes=[ADDRESS])
        try:
            yield client.schedule()
            values.append((yield from figure(client, seconds, task)))
        finally:
            ended.set()

    with _open_node(servers):
        pycos.Pycos(host=ADDRESS)
        pycos.Task(program)
        if not ended.wait(seconds + PATIENCE):
            raise TimeoutError
    return values[0]
