"""Nodes in jobs of PBS, LSF and Grid Engine, against small programs that behave like their commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio.launch import Lsf, Pbs, Sge
from discoro_trio.launch._lsf import LsfQueue
from discoro_trio.launch._pbs import PbsQueue
from discoro_trio.launch._queue import QueueState
from discoro_trio.launch._sge import SgeQueue
from discoro_trio.launch._single_jobs import seconds_of
from tests.launch.sshd import wait_until_ended
from tests.launch.stand_in import KILL_DELAY, System, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from discoro_trio.launch import LaunchedNode
    from discoro_trio.launch._batch import BatchLauncher

SECONDS = 120.0
CLASSES: dict[str, type[Lsf | Pbs | Sge]] = {"lsf": Lsf, "pbs": Pbs, "sge": Sge}


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    folder = tmp_path / "system"
    folder.mkdir()
    programs = install(folder, request.param, slots=2)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return System(folder, request.param)


def launcher(system: System, nodes: int, **options: object) -> BatchLauncher:
    defaults = {"folder": system.folder / "shared", "poll": 0.3, "kill_wait": KILL_DELAY}
    return CLASSES[system.system](nodes, **(defaults | options))  # type: ignore[arg-type]


async def until(launch: BatchLauncher, done: Callable[[tuple[LaunchedNode, ...]], bool]) -> None:
    with trio.fail_after(SECONDS):
        while not done(launch.nodes):
            await launch.until_changed()


def states(nodes: tuple[LaunchedNode, ...]) -> list[str]:
    return [node.state for node in nodes]


def left(system: System) -> list[object]:
    """Return the jobs and files that are left."""
    jobs = [job for job, fields in system.jobs().items() if fields["state"] != "ended"]
    return [*jobs, *(system.folder / "shared").glob("*")]


async def stay(folder: Path, seconds: float) -> str:
    (folder / "began").touch()
    await trio.sleep(seconds)
    return "stayed"


def double(value: int) -> int:
    return 2 * value


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.spec("B36")
@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("pbs", "queued, Not Running: Insufficient amount of resource: ncpus"),
        ("sge", "qw"),
        ("lsf", "PEND, Job slot limit reached;"),
    ],
    indirect=["system"],
)
async def test_nodes_run_jobs_one_waits_with_its_reason_and_all_are_gone_after_the_block(
    system: System, reason: str
) -> None:
    launch = launcher(system, 3)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launch) as scheduler:
        await until(launch, lambda nodes: states(nodes) == ["running", "running", "starting"])
        await until(launch, lambda nodes: nodes[2].reason.endswith(f": {reason}"))
        async with discoro.Computation([double]).schedule(servers=2) as computation:
            assert await computation.run_results(double, range(4)) == [0, 2, 4, 6]
        secret = scheduler._endpoint.credentials[b""].key.hex()
        assert not any(secret in str(fields) for fields in system.jobs().values()), "others can read these"
    assert left(system) == []


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize("system", ["pbs"], indirect=True)
async def test_the_node_itself_drains_before_its_time_ends_and_another_one_replaces_it(
    system: System, tmp_path: Path
) -> None:
    launch = launcher(system, 1, time="0:01:00", notice=52)
    async with (
        discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launch),
        discoro.Computation([stay]).schedule(servers=1) as computation,
    ):
        coro = await computation.run(stay, tmp_path, 12.0)
        await until(launch, lambda nodes: len(nodes) == 2)
        assert await coro.result() == "stayed"
        await until(launch, lambda nodes: states(nodes) == ["ended", "running"])
    assert left(system) == []


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize("system", ["lsf"], indirect=True)
async def test_a_signal_for_all_processes_of_a_job_drains_the_node_and_the_verdict_decides(
    system: System, tmp_path: Path
) -> None:
    launch = launcher(system, 1)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launch):
        async with discoro.Computation([stay]).schedule(servers=1) as computation:
            coro = await computation.run(stay, tmp_path, 4.0)
            with trio.fail_after(SECONDS):
                while not (tmp_path / "began").exists():  # noqa: ASYNC110 - another process makes it
                    await trio.sleep(0.05)
            system.end("1", "preempted")
            assert await coro.result() == "stayed"
        await until(launch, lambda nodes: states(nodes) == ["ended", "running"])
        system.end("2", "cancelled")
        await until(launch, lambda nodes: states(nodes) == ["ended", "ended"])
        assert "cancelled outside of this program" in launch.nodes[1].reason
    assert left(system) == []


PROGRAM = """
import sys, trio, discoro_trio as discoro
async def main():
    launch = getattr(discoro.launch, sys.argv[1])(3, folder=sys.argv[2], poll=0.3)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launch):
        while [node.state for node in launch.nodes] != ["running", "running", "starting"]:
            await launch.until_changed()
        print("begun", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize("system", ["pbs", "sge", "lsf"], indirect=True)
def test_a_killed_program_leaves_nothing_running_or_queued(system: System) -> None:
    command = [sys.executable, "-c", PROGRAM, CLASSES[system.system].__name__, str(system.folder / "shared")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        processes = psutil.Process(program.pid).children(recursive=True)
        os.killpg(program.pid, signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while there := left(system):
        assert time.monotonic() < deadline, there
        time.sleep(0.1)
    wait_until_ended(processes)


@pytest.mark.slow
@pytest.mark.program
@pytest.mark.parametrize("system", ["pbs"], indirect=True)
def test_a_program_that_is_killed_while_it_submits_leaves_no_job(system: System) -> None:
    qsub, submitting = system.folder / "bin" / "qsub", system.folder / "submitting"
    qsub.write_text(qsub.read_text().replace("exec", f": >{submitting}; sleep 2; exec"))
    command = [sys.executable, "-c", PROGRAM, "Pbs", str(system.folder / "shared")]
    with subprocess.Popen(command) as program:
        deadline = time.monotonic() + SECONDS
        while not submitting.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes = psutil.Process(program.pid).children(recursive=True)
        program.kill()
    wait_until_ended(processes)
    assert [fields["state"] for fields in system.jobs().values()] == ["ended"]
    assert left(system) == []


def test_the_answer_of_qstat_is_read_with_continued_lines() -> None:
    answer = (
        "Job Id: 7.pbs01\n    Job_Name = discoro-0a1b2c\n    job_state = Q\n"
        "    comment = Not Running: Not enough free nodes \n\tavailable\n    Variable_List = A=b = c,\n\tD=e\n\n"
        "Job Id: 8.pbs01\n    Job_Name = other\n    job_state = R\n\n"
        "Job Id: 9.pbs01\n    Job_Name = discoro-0a1b2c\n    job_state = E\n    exec_host = m3/0*4\n"
    )
    assert PbsQueue().states(answer, "discoro-0a1b2c") == {
        "7.pbs01": QueueState(phase="queued", text="queued, Not Running: Not enough free nodes available"),
        "9.pbs01": QueueState(phase="ending", text="exiting", where="m3"),
    }
    assert PbsQueue().states("", "x") == {}


def test_the_answer_of_bjobs_is_read_with_reasons_and_verdicts() -> None:
    answer = (
        "1|PEND|-|-|New job is waiting for scheduling: 3 hosts;\nLoad information unavailable: 1 host;\n"
        "2|RUN|m1:m1|-|-\n3|EXIT|m2|TERM_RUNLIMIT: job killed after reaching LSF run time limit|-\n"
        "4|EXIT|m2|TERM_ADMIN: job killed by root or LSF administrator|-\n5|DONE|m2|-|-\n6|SSUSP|m2|-|-\n"
    )
    found = LsfQueue().states(answer, "x")
    assert [state.phase for state in found.values()] == ["queued", "running", "ended", "ended", "ended", "running"]
    assert [state.verdict for state in found.values()] == ["", "", "taken", "cancelled", "", ""]
    assert found["1"].text == "PEND, New job is waiting for scheduling: 3 hosts;"
    assert found["2"].where == "m1"


def test_the_answer_of_qstat_in_xml_is_read_for_one_name() -> None:
    def job(number: int, name: str, state: str) -> str:
        return (
            f"<job_list><JB_job_number>{number}</JB_job_number><JB_name>{name}</JB_name>"
            f"<state>{state}</state><queue_name>all.q@m{number}</queue_name></job_list>"
        )

    jobs = [job(1, "x", "qw"), job(2, "x", "Eqw"), job(3, "x", "r"), job(4, "x", "dr"), job(5, "other", "r")]
    found = SgeQueue().states(f"<job_info>{''.join(jobs)}</job_info>", "x")
    assert [state.phase for state in found.values()] == ["queued", "queued", "running", "ending"]
    assert "qstat -j" in found["2"].text
    assert found["3"].where == "m3"


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        (
            Pbs(queue="q", time="1:30:00", account="a", cpus=4, memory="8gb", options=["-l", "place=excl"]),
            "-r n -S /bin/sh -l select=1:ncpus=4:mem=8gb -l walltime=1:30:00 -q q -A a -l place=excl",
        ),
        (
            Lsf(queue="q", time=90, account="a", cpus=4, memory="8GB"),
            "-rn -n 4 -R span[hosts=1] -M 8GB -W 90 -q q -P a",
        ),
        (
            Sge(queue="q", time=90, account="a", cpus=4, parallel_environment="smp", memory="8G"),
            "-r n -notify -S /bin/sh -pe smp 4 -l h_vmem=8G -l h_rt=5400 -q q -P a",
        ),
    ],
    ids=["pbs", "lsf", "sge"],
)
def test_options_become_arguments(launch: BatchLauncher, expected: str, tmp_path: Path) -> None:
    submission = launch._submission(tmp_path, ["x1"])
    assert " ".join(submission.command).endswith(expected)


def test_a_time_limit_is_a_clock_or_minutes() -> None:
    assert [seconds_of(time) for time in ("2:00:00", 30)] == [7200, 1800]
    for wrong in ("soon", "1:30", "1:2:3:4", 0, 1.5, True):
        with pytest.raises(ValueError, match="time must be a text such as"):
            seconds_of(wrong)  # type: ignore[arg-type]
