"""Nodes in jobs of LSF."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from .._errors import DiscoroError
from ._batch import BatchOptions
from ._queue import BatchQueue, QueueState
from ._single_jobs import SingleJobs

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

_SUBMITTED = re.compile(r"Job <(\d+)> is submitted")
_PHASES: dict[str, Literal["queued", "running", "ending", "ended"]] = {
    **dict.fromkeys(("PEND", "PSUSP", "WAIT", "PROV"), "queued"),
    **dict.fromkeys(("DONE", "EXIT"), "ended"),
}
_TAKEN = ("TERM_PREEMPT", "TERM_RUNLIMIT", "TERM_LOAD", "TERM_WINDOW", "TERM_DEADLINE", "TERM_REQUEUE")
_CANCELLED = ("TERM_OWNER", "TERM_FORCE_OWNER", "TERM_ADMIN", "TERM_FORCE_ADMIN")


class LsfQueue(BatchQueue):
    """The queue of LSF."""

    name = "lsf"
    programs = ("bsub", "bjobs", "bkill")
    keeps_ended = True

    def query(self, name: str) -> list[str]:
        """Return the command that lists the jobs of a name; those that have ended stay for a while."""
        fields = "jobid stat exec_host exit_reason pend_reason delimiter='|'"
        return ["bjobs", "-a", "-noheader", "-J", name, "-o", fields]

    def states(self, answer: str, name: str) -> dict[str, QueueState]:  # noqa: ARG002 - the query has selected it
        """Read what `query` has written; a line without all fields continues the reason before it."""
        found = {}
        for line in answer.splitlines():
            if line.count("|") < 4:  # noqa: PLR2004 - the separators of five fields
                continue
            job, state, where, exit_reason, pend_reason = (field.strip() for field in line.split("|", 4))
            phase = _PHASES.get(state, "running")
            reason = {"queued": pend_reason, "ended": exit_reason}.get(phase, "-")
            found[job] = QueueState(
                phase=phase,
                text=f"{state}, {reason}" if reason not in {"-", ""} else state,
                where="" if where == "-" else where.partition(":")[0],
                verdict=_verdict(exit_reason),
            )
        return found

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return the command that cancels jobs."""
        return ["bkill", *ids]

    def is_unreachable(self, error: str) -> bool:
        """Whether a command failed only because the batch system did not answer."""
        return "LSF is down" in error or "Please wait" in error

    def is_empty(self, error: str) -> bool:
        """Whether a failed query means only that there are no such jobs."""
        return "is not found" in error or "No job found" in error


def _verdict(exit_reason: str) -> Literal["", "taken", "cancelled"]:
    word = exit_reason.partition(":")[0]
    return "taken" if word in _TAKEN else "cancelled" if word in _CANCELLED else ""


class Lsf(SingleJobs):
    """Runs each node in a job of LSF: `bsub` submits them.

    It works like `Slurm`. A node whose time ends is drained and replaced before, if `time` is given.

    Args:
        nodes: Number of nodes.
        queue: Queue, as `bsub -q`.
        time: Time limit of a job, as `bsub -W`: "2:00:00", or 30 for minutes.
        account: Project, as `bsub -P`.
        cpus: Processors, and servers, of each node; by default what LSF gives a job.
        memory: Memory limit of each node, as `bsub -M`: "16GB".
        options: Further arguments of `bsub`, such as ["-gpu", "num=1"].
        setup: Shell commands to run before the interpreter, such as ["module load python/3.12"].
        python: The interpreter on the machines, which has discoro_trio installed; by default this program's own.
        notice: Seconds before the time limit at which the node is drained, at most half of `time`.
        kill_wait: Seconds between SIGINT and SIGKILL: twice the cluster's JOB_TERMINATE_INTERVAL.
        folder: A folder that this program and the machines share; by default ~/.local/state/discoro_trio/launch.
        poll: Seconds between two calls of `bjobs`.
        timeout: Seconds that a node may take to join the scheduler, from the start of its job.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    _queue = LsfQueue()
    _cpus_variable = "LSB_DJOB_NUMPROC"
    _job_variable = "LSB_JOBID"

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
        kill_wait: float = 20.0,
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
        command = ["bsub", "-J", folder.name, "-o", f"{folder}/job-%J.out", "-rn"]
        command += ["-n", str(self._cpus), "-R", "span[hosts=1]"] if self._cpus is not None else []
        command += ["-M", self._memory] if self._memory is not None else []
        command += ["-W", str(-(-self._seconds // 60))] if self._seconds is not None else []
        command += ["-q", self._queue_name] if self._queue_name is not None else []
        command += ["-P", self._account] if self._account is not None else []
        return command

    def _job(self, answer: str) -> str:
        found = _SUBMITTED.search(answer)
        if found is None:
            message = f"bsub has written {answer!r}; expected the number of a job"
            raise DiscoroError(message)
        return found[1]
