"""Nodes on the machines of a Ray cluster, which runs as processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from discoro_trio.launch import Ray
from tests._ports import free_tcp_port

from .node_processes import NodeProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.clusters, pytest.mark.spec("B36")]
SECONDS = 120.0


class Cluster(NodeProcesses):
    """A Ray cluster of one machine, and its processes."""

    seconds = SECONDS

    def __init__(self, process: psutil.Process, address: str) -> None:
        self.process = process
        self.address = address

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        found: list[psutil.Process] = self.process.children(recursive=True)
        return found


def _environment() -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    port = free_tcp_port()
    ray = Path(sys.executable).with_name("ray")
    options = [f"--port={port}", "--num-cpus=2", '--resources={"special": 1}', "--include-dashboard=false"]
    places = ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=100000000"]
    command = [str(ray), "start", "--head", "--block", *options, *places]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment()) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.decode())
            if "--block" in lines[-1]:  # it has started
                break
        else:
            pytest.fail("".join(lines))
        try:
            yield Cluster(psutil.Process(process.pid), f"127.0.0.1:{port}")
        finally:
            everything = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.communicate(timeout=SECONDS)
            for one in psutil.wait_procs(everything, timeout=10)[1]:
                one.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(f"/tmp/discoro-ray-{os.getpid()}")  # noqa: S108 - Ray needs a short path, for its sockets
    try:
        with running_cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str, cluster: Cluster) -> list[str]:
    return [sys.executable, "-m", "tests.launch.ray_scenarios", name, cluster.address]


def test_each_machine_gets_a_node_and_none_is_left_after_the_block(cluster: Cluster) -> None:
    done = subprocess.run(
        program("the_machine_gets_a_node", cluster),
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr
    cluster.wait_for_nodes(0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_or_interrupted_leaves_no_node(cluster: Cluster, number: signal.Signals) -> None:
    with subprocess.Popen(
        program("stays", cluster), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        assert len(cluster.nodes()) == 1
        running.send_signal(number)
        running.wait(SECONDS)
    cluster.wait_for_nodes(0)


def test_an_actor_that_dies_takes_its_node_along_and_is_named(cluster: Cluster) -> None:
    with subprocess.Popen(
        program("stays", cluster), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        actor = cluster.nodes()[0].parent()
        assert actor is not None
        actor.kill()
        errors = running.communicate(timeout=SECONDS)[1]
        assert running.returncode == 0, errors.decode()
    cluster.wait_for_nodes(0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="address must be a str"):
        Ray(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nodes must be 1 or more"):
        Ray(nodes=0)
