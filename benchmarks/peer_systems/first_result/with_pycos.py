"""The shortest program with a result: a node, a client, one remote task.

Annotations are texts: the function is compiled at the server without this module.
"""

import os
import signal
import subprocess
import sys
import typing

import pycos
import pycos.netpycos
from pycos.dispycos import Client

if typing.TYPE_CHECKING:
    from collections.abc import Generator

    Steps = Generator[typing.Any, typing.Any, typing.Any]

NODE = [sys.executable, "-m", "pycos.dispycosnode"]
OPTIONS = ["--cpus", "2", "--host", "127.0.0.1", "--daemon", "--clean"]


def increment(value: int, task: "pycos.Task" = None) -> "Steps":  # noqa: ARG001
    """Do the least that a job can do."""
    yield None
    return value + 1


def program(task: "pycos.Task" = None) -> "Steps":  # noqa: ARG001
    """Print the result of one job."""
    client = Client([increment], nodes=["127.0.0.1"])
    yield client.schedule()
    job = yield client.io_rtask(increment, 41)
    print((yield job()), flush=True)


if __name__ == "__main__":
    pycos.logger.setLevel(pycos.Logger.ERROR)
    node = subprocess.Popen([*NODE, *OPTIONS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0)
    try:
        pycos.Pycos(host="127.0.0.1")
        pycos.Task(program).value()
    finally:
        os.killpg(node.pid, signal.SIGKILL)
