"""Nodes on the workers of a Dask cluster, which runs as processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from discoro_trio.launch import Dask

from .node_processes import NodeProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.clusters, pytest.mark.spec("B36")]
SECONDS = 120.0

CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, resources={"GPU": 1}) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Cluster(NodeProcesses):
    """A Dask cluster of two workers, and its processes."""

    seconds = SECONDS

    def __init__(self, process: psutil.Process, address: str) -> None:
        self.process = process
        self.address = address

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        found: list[psutil.Process] = self.process.children(recursive=True)
        return found


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        address = process.stdout.readline().decode().strip()
        assert address, "the cluster has not started"
        try:
            yield Cluster(psutil.Process(process.pid), address)
        finally:
            everything = psutil.Process(process.pid).children(recursive=True)
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:  # after the end of its scheduler it does not end by itself
                process.kill()
            for one in everything:
                with suppress(psutil.NoSuchProcess):
                    one.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def program(name: str, cluster: Cluster) -> list[str]:
    return [sys.executable, "-m", "tests.launch.dask_scenarios", name, cluster.address]


@pytest.mark.parametrize(
    "name",
    [
        "each_worker_gets_a_node",
        "a_node_waits_in_the_queue_and_takes_resources",
        "the_number_of_nodes_follows_the_work",
    ],
)
def test_nodes_run_on_the_workers_and_none_is_left_after_the_block(cluster: Cluster, name: str) -> None:
    done = subprocess.run(program(name, cluster), capture_output=True, text=True, timeout=2 * SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert cluster.nodes() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_or_interrupted_leaves_no_node(cluster: Cluster, number: signal.Signals) -> None:
    with subprocess.Popen(program("stays", cluster), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        assert len(cluster.nodes()) == 2
        running.send_signal(number)
        running.wait(SECONDS)
    cluster.wait_for_nodes(0)


def test_a_worker_or_cluster_that_ends_takes_its_nodes_along_and_is_named() -> None:
    with (
        running_cluster() as cluster,
        subprocess.Popen(
            program("the_cluster_ends", cluster), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running,
    ):
        assert running.stdout is not None
        assert running.stdout.readline() == b"begun\n"
        worker = cluster.nodes()[0].parent()
        assert worker is not None
        worker.kill()
        errors = running.communicate(timeout=2 * SECONDS)[1]
        assert running.returncode == 0, errors.decode()
        cluster.wait_for_nodes(0)


@pytest.mark.parametrize("wrong", ["tcp://127.0.0.1:8786", None])
def test_something_else_than_a_client_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client"):
        Dask(wrong)
