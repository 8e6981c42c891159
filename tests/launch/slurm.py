"""A cluster of Slurm on this machine: munged, slurmctld and two slurmd, with files and ports of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from tests._ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 120.0
KILL_WAIT = 20.0
"""Seconds between SIGTERM and SIGKILL."""
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait={kill_wait:.0f}
MessageTimeout=10
SlurmdTimeout=30
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=0
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


class Cluster:
    """A running cluster, with the partitions main and urgent; jobs of urgent preempt those of main.

    Attributes:
        folder: A folder that the launcher may share with its jobs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shared"
        self._files = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a daemon: munged, slurmctld, n1 or n2."""
        files, program = self._files, name if name in {"munged", "slurmctld"} else "slurmd"
        arguments = {
            "munged": [
                "--foreground",
                "--force",
                *(f"--{option}-file={files}/munge.{option}" for option in ("key", "log", "pid", "seed")),
                f"--socket={files}/munge.socket",
            ],
            "slurmctld": ["-D", "-f", str(files / "slurm.conf")],
            "slurmd": ["-D", "-N", name, "-f", str(files / "slurm.conf")],
        }[program]
        with (files / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                [_path_of(program), *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def kill(self, name: str) -> None:
        """Kill a daemon."""
        daemon = self._daemons[name]
        daemon.kill()
        daemon.wait()

    def stop(self, name: str) -> None:
        """End a daemon in order."""
        daemon = self._daemons[name]
        daemon.terminate()
        daemon.wait(SECONDS)

    def wait_until_ready(self) -> None:
        """Wait until both nodes take jobs."""
        self._wait(lambda: command("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * 4)

    def jobs(self) -> list[str]:
        """Return the jobs that have not ended."""
        return command("squeue", "--noheader", "--array", "--format=%i %j %T").splitlines()

    def nodes(self) -> list[psutil.Process]:
        """Return the nodes of the package that run in jobs."""
        mark = str(self.folder)
        return [one for one in psutil.process_iter() if mark in (line := _line(one)) and "launch._node" in line]

    def administer(self) -> None:
        """Do what an administrator must do after `slurmctld` was killed.

        It starts again with the state that it has written last, some seconds old. It then drains the nodes on which it
        starts a job a second time, and shows jobs as running for minutes that have ended since.
        """
        with suppress(subprocess.CalledProcessError):
            drained = command("sinfo", "--noheader", "--Node", "--states=drain", "--format=%N").split()
            if drained:
                command("scontrol", "update", f"NodeName={','.join({*drained})}", "State=RESUME")
            running = command("squeue", "--noheader", "--array", "--states=running", "--format=%i %j").splitlines()
            over = [job for job, name in map(str.split, running) if not (self.folder / name).exists()]
            if over:
                command("scancel", *over)

    def wait_until_clean(self, *, administered: bool = False) -> None:
        """Wait until no job, no node and no file of a launcher is left; `administer` meanwhile if asked to."""

        def clean() -> bool:
            if administered:
                self.administer()
            return not [*self.jobs(), *self.nodes(), *self.folder.glob("*")]

        self._wait(clean)

    def _wait(self, done: object) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            with suppress(subprocess.CalledProcessError):
                if done():  # type: ignore[operator]
                    return
            if time.monotonic() > deadline:
                pytest.fail(f"left: {self.jobs()} {self.nodes()} {list(self.folder.glob('*'))}; {self.logs()}")
            time.sleep(0.1)

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in self._files.glob("*.log"))


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) if process.name().startswith("python") else ""
    except psutil.Error:
        return ""


def _path_of(program: str) -> str:
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.fail("these tests need the packages slurm-wlm and munge")
    return path


def command(*words: str, text: str | None = None) -> str:
    """Run a command of Slurm; return what it wrote."""
    return subprocess.run(words, check=True, capture_output=True, text=True, input=text, timeout=SECONDS).stdout


def submit(script: str, *options: str) -> str:
    """Submit a job of someone else; return its id."""
    return command("sbatch", "--parsable", "--output=/dev/null", *options, text=f"#!/bin/sh\n{script}\n").strip()


@contextmanager
def running_slurm(folder: Path) -> Iterator[Cluster]:
    """Run a cluster until the block is left; the commands of Slurm use it.

    Args:
        folder: For its files.
    """
    for program in _PROGRAMS:
        _path_of(program)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "state").mkdir()
    port, port1, port2 = free_ports(3)
    host = socket.gethostname()
    (folder / "slurm.conf").write_text(
        _CONFIGURATION.format(folder=folder, host=host, port=port, port1=port1, port2=port2, kill_wait=KILL_WAIT)
    )
    cluster = Cluster(folder)
    cluster.folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        for name in ("munged", "slurmctld", "n1", "n2"):
            cluster.start(name)
            stack.callback(cluster.stop, name)
        cluster.wait_until_ready()
        yield cluster
