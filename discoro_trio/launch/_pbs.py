"""Nodes in jobs of PBS: OpenPBS and PBS Professional."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from ._batch import BatchOptions
from ._queue import BatchQueue, QueueState
from ._single_jobs import SingleJobs

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

_JOB = re.compile(r"^Job Id: (\S+)$", re.MULTILINE)
_PHASES: dict[str, Literal["queued", "running", "ending", "ended"]] = {
    **dict.fromkeys("QHWTM", "queued"),
    **dict.fromkeys("RBSU", "running"),
    "E": "ending",
    **dict.fromkeys("FCX", "ended"),
}
_WORDS = {"Q": "queued", "H": "held", "W": "waiting", "R": "running", "S": "suspended", "E": "exiting"}


class PbsQueue(BatchQueue):
    """The queue of PBS."""

    name = "pbs"
    programs = ("qsub", "qselect", "qstat", "qdel")

    def query(self, name: str) -> list[str]:
        """Return the command that lists the jobs of a name."""
        return ["sh", "-c", 'ids=$(qselect -N "$1") || exit; [ -z "$ids" ] || exec qstat -f $ids', "sh", name]

    def states(self, answer: str, name: str) -> dict[str, QueueState]:
        """Read what `query` has written; a line that begins with a tab continues the one before it."""
        found = {}
        _, *parts = _JOB.split(answer.replace("\n\t", ""))
        for job, text in zip(parts[::2], parts[1::2], strict=True):
            fields = dict(line.strip().split(" = ", 1) for line in text.splitlines() if " = " in line)
            if fields.get("Job_Name") == name:
                found[job] = self._state(fields)
        return found

    def _state(self, fields: dict[str, str]) -> QueueState:
        state = fields.get("job_state", "")
        phase = _PHASES.get(state, "running")
        word = _WORDS.get(state, state)
        if phase == "queued" and fields.get("comment"):
            word = f"{word}, {fields['comment']}"
        return QueueState(phase=phase, text=word, where=fields.get("exec_host", "").partition("/")[0])

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return the command that cancels jobs."""
        return ["qdel", *ids]

    def is_unreachable(self, error: str) -> bool:
        """Whether a command failed only because the batch system did not answer."""
        return "cannot connect to server" in error or "Connection refused" in error


class Pbs(SingleJobs):
    """Runs each node in a job of PBS (OpenPBS, PBS Professional): `qsub` submits them.

    It works like `Slurm`. PBS does not report why a job has ended: a node that ends after SIGTERM is not replaced. One
    whose time ends is drained and replaced before, if `time` is given.

    Args:
        nodes: Number of nodes.
        queue: Queue, as `qsub -q`.
        time: Time limit of a job, as `qsub -l walltime`: "2:00:00", or 30 for minutes.
        account: Account, as `qsub -A`.
        cpus: Processors, and servers, of each node; by default what PBS gives a job.
        memory: Memory of each node, as `qsub -l select=1:mem`: "16gb".
        options: Further arguments of `qsub`, such as ["-l", "place=excl"].
        setup: Shell commands to run before the interpreter, such as ["module load python/3.12"].
        python: The interpreter on the machines, which has discoro_trio installed; by default this program's own.
        notice: Seconds before the time limit at which the node is drained, at most half of `time`.
        kill_wait: Seconds between SIGTERM and SIGKILL: the server's kill_delay.
        folder: A folder that this program and the machines share; by default ~/.local/state/discoro_trio/launch.
        poll: Seconds between two calls of `qstat`.
        timeout: Seconds that a node may take to join the scheduler, from the start of its job.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    _queue = PbsQueue()
    _cpus_variable = "NCPUS"
    _job_variable = "PBS_JOBID"

    def __init__(
        self,
        nodes: int = 1,
        *,
        queue: str | None = None,
        time: str | int | None = None,
        account: str | None = None,
        cpus: int | None = None,
        memory: str | None = None,
        options: Sequence[str] = (),
        setup: Sequence[str] = (),
        python: str | os.PathLike[str] | None = None,
        notice: float = 120.0,
        kill_wait: float = 10.0,
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

    def _command(self, folder: Path) -> list[str]:
        select = ["select=1"]
        select += [f"ncpus={self._cpus}"] if self._cpus is not None else []
        select += [f"mem={self._memory}"] if self._memory is not None else []
        command = ["qsub", "-N", folder.name, "-j", "oe", "-o", f"{folder}/", "-r", "n", "-S", "/bin/sh"]
        command += ["-l", ":".join(select)] if len(select) > 1 else []
        command += ["-l", f"walltime={self._clock}"] if self._clock is not None else []
        command += ["-q", self._queue_name] if self._queue_name is not None else []
        command += ["-A", self._account] if self._account is not None else []
        return command

    def _job(self, answer: str) -> str:
        return answer.rsplit(maxsplit=1)[-1]
