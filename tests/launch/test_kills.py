"""Kills at random moments of a program, its ssh, its nodes and Slurm's daemons: nothing is left, and no job is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.launch.slurm import Cluster, running_slurm
from tests.launch.sshd import Sshd, running_sshd, wait_until_ended

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.program, pytest.mark.slow, pytest.mark.spec("B36")]
SECONDS = 120.0
LATEST = 8.0
"""Seconds after the program's start at which something is killed at the latest; the program takes about as long."""
KINDS = ("client", "node", "slurmd", "slurmctld", "ssh")

PROGRAM = """
import functools, sys, trio, discoro_trio as discoro
async def job(number):
    await trio.sleep(0.2)
    return number
async def main():
    if sys.argv[1] == "slurm":
        launch = discoro.launch.Slurm(2, cpus=1, folder=sys.argv[2], poll=0.5)
    else:
        options = ["-F", sys.argv[2]]
        launch = discoro.launch.Ssh(["worker1", "worker2"], python=sys.executable, cpus=1, ssh_options=options)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launch):
        async with discoro.Computation([job]).schedule() as computation:
            async with computation.map(job, range(50), retries=5) as results:
                assert [number async for number in results] == list(range(50))
    print("complete", flush=True)
trio.run(main)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def kill_one(found: list[psutil.Process], chance: random.Random) -> None:
    if found:
        process = chance.choice(found)
        if process.is_running():
            process.kill()


@contextmanager
def ending(program: subprocess.Popen[str]) -> Iterator[None]:
    """Kill a program that has not ended with the block."""
    try:
        yield
    finally:
        program.kill()


def wait_for_output(program: subprocess.Popen[str], cluster: Cluster) -> str:
    """Return what a program has written when it has ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return program.communicate(timeout=1.0)[0]
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, f"the program runs on; {cluster.jobs()}; {cluster.logs()}"
            cluster.administer()


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120))])
def test_a_kill_at_a_random_moment_leaves_nothing_and_loses_no_job(cluster: Cluster, sshd: Sshd, seed: int) -> None:
    chance = random.Random(seed)
    kind, moment, pause = KINDS[seed % len(KINDS)], chance.uniform(0, LATEST), chance.uniform(0, 4)
    arguments = ["ssh", str(sshd.config)] if kind == "ssh" else ["slurm", str(cluster.folder)]
    with (
        subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True) as program,
        ending(program),
    ):
        try:
            program.wait(moment)
        except subprocess.TimeoutExpired:
            children = psutil.Process(program.pid).children(recursive=True)
            if kind == "client":
                program.send_signal(signal.SIGKILL)
            elif kind == "node":
                kill_one(cluster.nodes(), chance)
            elif kind == "ssh":
                kill_one([one for one in children if one.name() == "ssh"], chance)
            else:
                daemon = "slurmctld" if kind == "slurmctld" else chance.choice(["n1", "n2"])
                cluster.kill(daemon)
                time.sleep(pause)  # it is away for some time
                cluster.start(daemon)
        output = wait_for_output(program, cluster)
    assert output == "complete\n" or program.returncode == -signal.SIGKILL, f"{kind} after {moment:.1f} s"
    cluster.wait_until_clean(administered=kind == "slurmctld")
    cluster.wait_until_ready()
    wait_until_ended(sshd.processes())
