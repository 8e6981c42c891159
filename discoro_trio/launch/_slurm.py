"""Nodes in jobs of Slurm."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from .._arguments import flag, optional_text
from ._batch import BatchLauncher, BatchOptions, JobScript
from ._order import drain_marker
from ._queue import BatchQueue, QueueState

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

_RUNNING = {"RUNNING", "CONFIGURING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"}
_QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_VERDICTS: dict[str, Literal["taken", "cancelled"]] = {
    **dict.fromkeys(("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"), "taken"),
    "CANCELLED": "cancelled",
}
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(\d+)(?::(\d+))?(?::(?P<third>\d+))?")
_BOOT_TIME = re.compile(r"^BOOT_TIME\s*=\s*(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\s*$", re.MULTILINE)
_UNREACHABLE = (
    "Unable to contact slurm controller",
    "Zero Bytes were transmitted or received",
    "Socket timed out",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Communication connection failure",
    "Communication shutdown failure",
    "Message receive failure",
    "Message send failure",
    "Unexpected message received",
    "backup controller in standby mode",
)
_NO_REASON = {"None", ""}
_SEPARATORS = 3
"""Those of a line of `squeue`."""


def _phase(state: str) -> Literal["queued", "running", "ending", "ended"]:
    if state == "COMPLETING":
        return "ending"
    if state in _QUEUED:
        return "queued"
    return "running" if state in _RUNNING else "ended"


def _seconds_of(time: str | None) -> float | None:
    """Return the seconds of a time limit as `sbatch` takes it; None if there is no limit, or it is not understood."""
    match = _TIME.fullmatch(time or "")
    if match is None:
        return None
    days, *parts = (int(part) if part else 0 for part in match.groups())
    if match["days"] or match["third"]:  # days-hours[:minutes[:seconds]], or hours:minutes:seconds
        hours, minutes, seconds = parts
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, parts[:2]
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds) or None


class SlurmQueue(BatchQueue):
    """The queue of Slurm."""

    name = "slurm"
    programs = ("sbatch", "srun", "squeue", "scancel")
    keeps_ended = True

    def query(self, name: str) -> list[str]:
        """Return the command that lists the jobs of a name; those that have ended stay for some minutes."""
        return ["squeue", f"--name={name}", "--states=all", "--array", "--noheader", "--format=%i|%T|%r|%N"]

    def states(self, answer: str, name: str) -> dict[str, QueueState]:  # noqa: ARG002 - the query has selected it
        """Read what `query` has written."""
        found = {}
        for line in answer.splitlines():
            if line.count("|") < _SEPARATORS:
                continue  # a message of the site
            job, state, reason, where = line.split("|", 3)
            word = state if reason in _NO_REASON else f"{state}, {reason}"
            found[job] = QueueState(phase=_phase(state), text=word, where=where, verdict=_VERDICTS.get(state, ""))
        return found

    def started(self) -> list[str]:
        """Return the command that prints when the controller has started."""
        return ["scontrol", "show", "config"]

    def start_time(self, answer: str) -> float | None:
        """Read what `started` has written; the time is in this machine's time zone."""
        match = _BOOT_TIME.search(answer)
        return None if match is None else datetime.fromisoformat(match[1]).timestamp()

    def is_unreachable(self, error: str) -> bool:
        """Whether a command failed only because the batch system did not answer."""
        return any(text in error for text in _UNREACHABLE)

    def cancel(self, ids: Sequence[str]) -> list[str]:
        """Return the command that cancels jobs."""
        return ["scancel", *ids]


class Slurm(BatchLauncher):
    """Runs nodes in jobs of Slurm: `sbatch` submits them, and they connect to this program's scheduler.

    The program runs on a machine of the cluster, such as its login node, and shares a folder with the other machines.
    The jobs end with the scheduler's block, also if this program is killed. A node is drained before the time limit of
    its job and when the job is preempted, and another job is submitted in its place.

    Args:
        nodes: Number of nodes.
        one_job: Whether one job has all nodes; by default each node is a job of an array and starts on its own.
        partition: Partition, as `sbatch --partition`.
        time: Time limit of a job, as `sbatch --time`: "2:00:00", or "30" for minutes.
        account: Account, as `sbatch --account`.
        qos: Quality of service, as `sbatch --qos`.
        gres: Generic resources of each node, as `sbatch --gres`: "gpu:2".
        cpus: Processors, and servers, of each node; by default what Slurm gives a job.
        memory: Memory of each node, as `sbatch --mem`: "16G".
        options: Further arguments of `sbatch`, such as ["--constraint=epyc"].
        setup: Shell commands to run before the interpreter, such as ["module load python/3.12"].
        python: The interpreter on the machines, which has discoro_trio installed; by default this program's own.
        notice: Seconds before the time limit at which the node is drained, at most half of `time`; if only the
            partition has a limit, Slurm may signal up to a minute earlier.
        kill_wait: Seconds between SIGTERM and SIGKILL when Slurm preempts a job: the partition's GraceTime and the
            cluster's KillWait.
        folder: A folder that this program and the machines share, for the scripts' output and a file that only you can
            read; by default ~/.local/state/discoro_trio/launch.
        poll: Seconds between two calls of `squeue`.
        timeout: Seconds that a node may take to join the scheduler, from the start of its job.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    _queue = SlurmQueue()

    def __init__(
        self,
        nodes: int = 1,
        *,
        one_job: bool = False,
        partition: str | None = None,
        time: str | int | None = None,
        account: str | None = None,
        qos: str | None = None,
        gres: str | None = None,
        cpus: int | None = None,
        memory: str | None = None,
        options: Sequence[str] = (),
        setup: Sequence[str] = (),
        python: str | os.PathLike[str] | None = None,
        notice: float = 120.0,
        kill_wait: float = 30.0,
        folder: str | os.PathLike[str] | None = None,
        poll: float = 5.0,
        timeout: float = 60.0,
    ) -> None:
        minutes = optional_text("time", str(time) if isinstance(time, int) else time)
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
            limit=_seconds_of(minutes),
        )
        self._one_job = flag("one_job", one_job)
        given = {
            "partition": optional_text("partition", partition),
            "time": minutes,
            "account": optional_text("account", account),
            "qos": optional_text("qos", qos),
            "gres": optional_text("gres", gres),
            "mem": optional_text("memory", memory),
        }
        self._given = [f"--{option}={value}" for option, value in given.items() if value is not None]

    def _submission(self, folder: Path, names: Sequence[str]) -> JobScript:
        base = int(names[0].removeprefix(self._queue.name))
        cpus = [] if self._cpus is None else [f"--cpus-per-task={self._cpus}"]
        if self._one_job:
            count, number = [f"--nodes={len(names)}"], f"$(({base} + SLURM_PROCID))"
        else:
            count, number = ["--nodes=1", f"--array=0-{len(names) - 1}"], f"$(({base} + SLURM_ARRAY_TASK_ID))"
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={folder.name}",
            *count,
            "--ntasks-per-node=1",
            *cpus,
            "--no-requeue",  # a job that runs again would be a second node of the same name
            f"--signal=B:USR1@{max(1, round(self._notice))}",
            f"--output={folder}/job-%j.out",
            *self._given,
            *self._options,
        ]
        node = self._node_script(
            folder, name=f"{self._queue.name}{number}", cpus='"$SLURM_CPUS_ON_NODE"', job='"$SLURM_JOB_ID"'
        )
        step = ["srun", "--kill-on-bad-exit=0", "--cpu-bind=none", "--mpi=none", "--input=none", *cpus]
        script = "\n".join(
            [
                "#!/bin/sh",
                # The signal goes to this shell only: a step would pass it to all processes of the node.
                f"trap ': >{shlex.quote(str(folder))}/\"{drain_marker('$SLURM_JOB_ID')}\"' USR1",
                "trap : TERM",
                f"{shlex.join([*step, 'sh', '-c', node])} &",
                "step=$!",
                'while kill -0 "$step" 2>/dev/null; do wait "$step"; status=$?; done',
                'exit "$status"',
                "",
            ]
        )
        return JobScript(command=command, script=script)

    def _jobs(self, answer: str, names: Sequence[str]) -> dict[str, str]:
        job = answer.rsplit(maxsplit=1)[-1].partition(";")[0]
        if self._one_job:
            return dict.fromkeys(names, job)
        return {name: f"{job}_{index}" for index, name in enumerate(names)}
