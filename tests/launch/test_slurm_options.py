"""What the options of Slurm become, without Slurm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from discoro_trio.launch import Slurm
from discoro_trio.launch._queue import QueueState
from discoro_trio.launch._slurm import SlurmQueue, _seconds_of

if TYPE_CHECKING:
    from pathlib import Path


def test_options_become_arguments_of_sbatch(tmp_path: Path) -> None:
    slurm = Slurm(
        partition="p", time="2:00:00", account="a", qos="q", gres="gpu:2", cpus=4, memory="8G", options=["--exclusive"]
    )
    command = " ".join(slurm._submission(tmp_path, ["slurm7", "slurm8"]).command)
    assert "--nodes=1 --array=0-1 --ntasks-per-node=1 --cpus-per-task=4" in command
    assert "--signal=B:USR1@120" in command
    assert command.endswith("--partition=p --time=2:00:00 --account=a --qos=q --gres=gpu:2 --mem=8G --exclusive")
    together = " ".join(Slurm(2, one_job=True)._submission(tmp_path, ["slurm7", "slurm8"]).command)
    assert "--nodes=2 --ntasks-per-node=1" in together
    assert "--array" not in together


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("30", 1800),
        ("2:30", 150),
        ("1:00:00", 3600),
        ("2-0", 172800),
        ("1-2:3", 93780),
        ("1-0:0:1", 86401),
        ("UNLIMITED", None),
        ("0", None),
        (None, None),
    ],
)
def test_a_time_limit_is_read_as_sbatch_reads_it(time: str | None, seconds: float | None) -> None:
    assert _seconds_of(time) == seconds


def test_the_notice_is_at_most_half_of_the_time(tmp_path: Path) -> None:
    command = Slurm(time=1)._submission(tmp_path, ["slurm1"]).command
    assert "--signal=B:USR1@30" in command


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"nodes": 0}, ValueError, "nodes must be 1 or more"),
        ({"cpus": 0}, ValueError, "cpus must be 1 or more"),
        ({"partition": 5}, TypeError, "partition must be a str"),
        ({"time": 1.5}, TypeError, "time must be a str"),
        ({"options": "--exclusive"}, TypeError, "options must be a list or tuple of arguments"),
        ({"one_job": "yes"}, TypeError, "one_job must be True or False"),
        ({"poll": 0}, ValueError, "poll must be more than 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Slurm(**arguments)  # type: ignore[arg-type]


def test_the_answer_of_squeue_is_read_with_reasons_and_verdicts() -> None:
    answer = (
        "7_0|PENDING|Resources|\n7_1|RUNNING|None|n1\n7_2|COMPLETING|None|n2\n7_3|PREEMPTED|None|n1\n"
        "7_4|CANCELLED|None|\n7_5|FAILED|NonZeroExitCode|n1\n7_6|TIMEOUT|TimeLimit|n1\n7_7|SUSPENDED|None|n1\n"
    )
    found = SlurmQueue().states(answer, "x")
    phases = ["queued", "running", "ending", "ended", "ended", "ended", "ended", "running"]
    assert [state.phase for state in found.values()] == phases
    assert [state.verdict for state in found.values()] == ["", "", "", "taken", "cancelled", "", "taken", ""]
    assert found["7_0"] == QueueState(phase="queued", text="PENDING, Resources")
    assert found["7_5"].text == "FAILED, NonZeroExitCode"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", True),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", False),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
    ],
)
def test_only_a_controller_that_does_not_answer_is_asked_again(error: str, *, again: bool) -> None:
    assert SlurmQueue().is_unreachable(error) is again


def test_the_start_of_the_controller_is_read_from_its_configuration() -> None:
    queue = SlurmQueue()
    answer = "Configuration data as of now\nBOOT_TIME               = 2026-11-29T06:03:32\nCliFilter = (null)\n"
    started = queue.start_time(answer)
    assert started is not None
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(started)) == "2026-11-29T06:03:32"
    assert queue.start_time("BOOT_TIME = 3 min ago") is None
