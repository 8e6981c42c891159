"""Nodes in jobs of Grid Engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree as ET

from .._arguments import text
from ._batch import BatchOptions
from ._queue import BatchQueue, QueueState, QueueUnavailableError
from ._single_jobs import SingleJobs

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path


class SgeQueue(BatchQueue):
    """The queue of Grid Engine."""

    name = "sge"
    programs = ("qsub", "qstat", "qdel")

    def query(self, name: str) -> list[str]:  # noqa: ARG002 - it lists all of the user's jobs
        """Return the command that lists the jobs."""
        return ["qstat", "-xml"]

    def states(self, answer: str, name: str) -> dict[str, QueueState]:
        """Read what `query` has written: one element for each job that has not ended."""
        try:
            jobs = ET.fromstring(answer)  # noqa: S314 - the batch system's own answer
        except ET.ParseError as error:
            message = f"qstat -xml has not written XML: {error}"
            raise QueueUnavailableError(message) from None
        found = {}
        for element in jobs.iter("job_list"):
            state = element.findtext("state", "").strip()
            if element.findtext("JB_name") == name:
                where = element.findtext("queue_name", "").rpartition("@")[2]
                found[element.findtext("JB_job_number", "")] = QueueState(
                    phase=_phase(state), text=_word(state), where=where
                )
        return found

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return the command that cancels jobs."""
        return ["qdel", *ids]

    def is_unreachable(self, error: str) -> bool:
        """Whether a command failed only because the batch system did not answer."""
        return "unable to contact qmaster" in error or "unable to send message to qmaster" in error


def _phase(state: str) -> Literal["queued", "running", "ending"]:
    if "d" in state:
        return "ending"
    return "queued" if "w" in state else "running"


def _word(state: str) -> str:
    """Return the state, with a hint for the one that lasts until someone clears it."""
    return f"{state}, its last start failed: see qstat -j" if "E" in state else state


class Sge(SingleJobs):
    """Runs each node in a job of Grid Engine: `qsub` submits them.

    It works like `Slurm`. Grid Engine does not report why a job has ended: a node that ends after a signal is not
    replaced. One whose time ends is drained and replaced before, if `time` is given.

    Args:
        nodes: Number of nodes.
        queue: Queue, as `qsub -q`.
        time: Time limit of a job, as `qsub -l h_rt`: "2:00:00", or 30 for minutes.
        account: Project, as `qsub -P`.
        cpus: Processors, and servers, of each node; needs `parallel_environment`. By default one.
        parallel_environment: The parallel environment whose slots are on one machine, such as "smp".
        memory: Memory limit of each slot, as `qsub -l h_vmem`: "4G".
        options: Further arguments of `qsub`, such as ["-l", "gpu=1"].
        setup: Shell commands to run before the interpreter, such as ["module load python/3.12"].
        python: The interpreter on the machines, which has discoro_trio installed; by default this program's own.
        notice: Seconds before the time limit at which the node is drained, at most half of `time`.
        kill_wait: Seconds between SIGUSR2 and SIGKILL: the queue's `notify`.
        folder: A folder that this program and the machines share; by default ~/.local/state/discoro_trio/launch.
        poll: Seconds between two calls of `qstat`.
        timeout: Seconds that a node may take to join the scheduler, from the start of its job.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    _queue = SgeQueue()
    _cpus_variable = "NSLOTS"
    _job_variable = "JOB_ID"

    def __init__(
        self,
        nodes: int = 1,
        *,
        queue: str | None = None,
        time: str | int | None = None,
        account: str | None = None,
        cpus: int | None = None,
        parallel_environment: str | None = None,
        memory: str | None = None,
        options: Sequence[str] = (),
        setup: Sequence[str] = (),
        python: str | os.PathLike[str] | None = None,
        notice: float = 120.0,
        kill_wait: float = 60.0,
        folder: str | os.PathLike[str] | None = None,
        poll: float = 10.0,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(
            BatchOptions(
                nodes=nodes,
                cpus=cpus,
                options=options,
                setup=setup,
                python=python,
                notice=notice,
                kill_wait=kill_wait,
                folder=folder,
                poll=poll,
                timeout=timeout,
            ),
            queue=queue,
            time=time,
            account=account,
            memory=memory,
        )
        self._slots: list[str] = []
        if parallel_environment is not None:
            self._slots = ["-pe", text("parallel_environment", parallel_environment), str(self._cpus or 1)]
        elif (self._cpus or 1) > 1:
            message = f"cpus={self._cpus} needs parallel_environment, such as 'smp'; `qconf -spl` lists them"
            raise ValueError(message)

    def _command(self, folder: Path) -> list[str]:
        command = ["qsub", "-terse", "-N", folder.name, "-j", "y", "-o", str(folder), "-r", "n", "-notify"]
        command += ["-S", "/bin/sh", *self._slots]
        command += ["-l", f"h_vmem={self._memory}"] if self._memory is not None else []
        command += ["-l", f"h_rt={self._seconds}"] if self._seconds is not None else []
        command += ["-q", self._queue_name] if self._queue_name is not None else []
        command += ["-P", self._account] if self._account is not None else []
        return command

    def _job(self, answer: str) -> str:
        return answer.rsplit(maxsplit=1)[-1]
