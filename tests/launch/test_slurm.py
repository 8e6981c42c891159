"""Nodes in jobs of the distribution's Slurm: one slurmctld and two slurmd of one processor each, on this machine."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio.launch import Slurm
from tests.cli.programs import ROOT, environment
from tests.launch.slurm import KILL_WAIT, Cluster, command, running_slurm, submit
from tests.launch.sshd import wait_until_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from discoro_trio.launch import LaunchedNode

pytestmark = [pytest.mark.program, pytest.mark.slow]
SECONDS = 120.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.wait_until_clean()


def launcher(cluster: Cluster, nodes: int, **options: object) -> Slurm:
    defaults = {"cpus": 1, "folder": cluster.folder, "poll": 0.5, "kill_wait": KILL_WAIT}
    return Slurm(nodes, **(defaults | options))  # type: ignore[arg-type]


async def until(slurm: Slurm, done: Callable[[tuple[LaunchedNode, ...]], bool]) -> None:
    with trio.move_on_after(SECONDS):
        while not done(slurm.nodes):
            await slurm.until_changed()
        return
    pytest.fail(f"{slurm.nodes}; {command('squeue', '--states=all', '--array')}")


def states(nodes: tuple[LaunchedNode, ...]) -> list[str]:
    return [node.state for node in nodes]


async def double(value: int) -> int:
    return 2 * value


async def work(folder: Path, number: int, seconds: float) -> int:
    try:
        (folder / f"began-{number}").touch()
        await trio.sleep(seconds)
    except trio.Cancelled:
        (folder / f"cleaned-{number}").touch()
        raise
    return number


@pytest.mark.spec("B36")
@pytest.mark.parametrize("one_job", [False, True], ids=["an array", "one job"])
async def test_nodes_run_jobs_show_no_secret_and_are_gone_after_the_block(cluster: Cluster, *, one_job: bool) -> None:
    slurm = launcher(cluster, 2, one_job=one_job)
    with trio.fail_after(SECONDS):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm) as scheduler:
            await until(slurm, lambda nodes: states(nodes) == ["running", "running"])
            async with discoro.Computation([double]).schedule(servers=2) as computation:
                assert await computation.run_results(double, range(9)) == list(range(0, 18, 2))
            assert sorted(node.name for node in (await scheduler.status()).nodes) == ["slurm1", "slurm2"]
            assert len(cluster.jobs()) == (1 if one_job else 2)
            check_secrecy(cluster, scheduler._endpoint.credentials[b""].key.hex())
            await slurm.take_back("slurm1")
            first = slurm.nodes[0]
            assert (first.name, first.state, first.reason) == ("slurm1", "ended", "it was taken back")
            assert slurm.nodes[1].state == "running"
            assert len(cluster.nodes()) == 1
    assert cluster.jobs() == []
    assert states(slurm.nodes) == ["ended", "ended"]


def check_secrecy(cluster: Cluster, secret: str) -> None:
    """Look for the secret everywhere that other users can read."""
    job = cluster.jobs()[0].split()[0]
    assert secret not in command("scontrol", "show", "job", job)
    assert secret not in command("scontrol", "write", "batch_script", job, "-")
    assert not any(secret in " ".join([*one.cmdline(), *one.environ().values()]) for one in cluster.nodes())
    holders = [path for path in cluster.folder.rglob("*") if path.is_file() and secret in path.read_text()]
    assert [stat.S_IMODE(path.stat().st_mode) for path in holders] == [0o600]
    assert stat.S_IMODE(holders[0].parent.stat().st_mode) == 0o700


async def test_a_job_that_waits_in_the_queue_shows_its_reason_and_is_cancelled_with_the_block(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "discoro_trio.launch")
    slurm = launcher(cluster, 3)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm):
        await until(slurm, lambda nodes: states(nodes) == ["running", "running", "starting"])
        await until(slurm, lambda nodes: "PENDING, Resources" in nodes[2].reason)
    assert cluster.jobs() == []
    assert any("slurm3: PENDING, Resources" in record.getMessage() for record in caplog.records)


async def test_a_job_that_is_cancelled_outside_is_reported_and_not_replaced(cluster: Cluster) -> None:
    slurm = launcher(cluster, 2)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm):
        await until(slurm, lambda nodes: states(nodes) == ["running", "running"])
        command("scancel", next(line.split()[0] for line in cluster.jobs() if line.split()[0].endswith("_0")))
        await until(slurm, lambda nodes: states(nodes) == ["ended", "running"])
        assert "cancelled outside of this program" in slurm.nodes[0].reason
        assert len(slurm.nodes) == 2


@pytest.mark.spec("B37")
async def test_a_preempted_node_is_drained_and_replaced_and_no_job_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    slurm = launcher(cluster, 2)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm):
        await until(slurm, lambda nodes: states(nodes) == ["running", "running"])
        async with discoro.Computation([work]).schedule(servers=2) as computation:
            stay = [await computation.run(work, tmp_path, number, 8.0) for number in (100, 101)]
            jobs = [(tmp_path, number, 2.0) for number in range(8)]
            async with computation.starmap(work, jobs, retries=1, limit=4) as results:
                first = await anext(aiter(results))
                submit("sleep 5", "--partition=urgent", "--nodes=1", "--exclusive")
                assert [first, *[number async for number in results]] == list(range(8))
            assert [await coro.result() for coro in stay] == [100, 101], "a running coroutine may finish"
        await until(slurm, lambda nodes: len(nodes) == 3)
        await until(slurm, lambda nodes: nodes[2].state == "running")
        assert sorted(states(slurm.nodes)) == ["ended", "running", "running"]


@pytest.mark.spec("B37")
@pytest.mark.parametrize("known", [True, False], ids=["its own limit", "a limit that only Slurm knows"])
async def test_a_node_is_drained_and_replaced_before_its_wall_time_ends(
    cluster: Cluster, tmp_path: Path, *, known: bool
) -> None:
    limit = {"time": 1} if known else {"options": ["--time=1"]}
    slurm = launcher(cluster, 1, notice=40, **limit)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm):
        await until(slurm, lambda nodes: nodes[0].state == "running")
        async with discoro.Computation([work]).schedule(servers=1) as computation:
            before = await computation.run(work, tmp_path, 1, 35.0 if known else 20.0)
            await until(slurm, lambda nodes: len(nodes) == 2)
            assert await before.result() == 1, "it may finish after the announcement"
            await until(slurm, lambda nodes: states(nodes) == ["ended", "running"])
            assert await computation.run_result(work, tmp_path, 2, 0.0) == 2


async def test_without_slurm_or_with_a_wrong_partition_the_block_does_not_begin(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(discoro.DiscoroError, match=r"sbatch: error: .*invalid partition"):
        async with discoro.open_scheduler(
            ip_addr="127.0.0.1", discover=False, launch=launcher(cluster, 2, partition="nowhere")
        ):
            pytest.fail("the block has begun")
    with pytest.raises(discoro.DiscoroError, match=r"slurm1: job \S+ ended: FAILED.*/nowhere/python: not found"):
        async with discoro.open_scheduler(
            ip_addr="127.0.0.1", discover=False, launch=launcher(cluster, 1, python="/nowhere/python")
        ):
            pytest.fail("the block has begun")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(discoro.DiscoroError, match=r"sbatch is not installed here: launch\.Slurm needs"):
            async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher(cluster, 1)):
                pytest.fail("the block has begun")


def test_the_command_line_and_an_example_use_slurm(cluster: Cluster) -> None:
    variables = environment(XDG_STATE_HOME=str(cluster.folder))
    command_line = [sys.executable, "-m", "discoro_trio", "launch", "slurm", "--nodes", "3", "--no_discover"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True, env=variables) as program:
        assert program.stdout is not None
        printed: list[str] = []
        while not all(any(text in line for line in printed) for text in ("slurm3 starting: job", "slurm2 running")):
            printed.append(program.stdout.readline())
            assert printed[-1], printed
        program.send_signal(signal.SIGINT)
        rest = program.stdout.read()
        program.wait(SECONDS)
    assert program.returncode == 0
    assert all(f"slurm{number} ended: the scheduler's block was left" in rest for number in (1, 2, 3))
    assert cluster.jobs() == []
    example = [sys.executable, str(ROOT / "examples" / "corpus.py"), "--files", "4", "--launch", "slurm:2"]
    done = subprocess.run(example, capture_output=True, text=True, timeout=SECONDS, env=variables, check=False)
    assert "The totals are equal." in done.stdout, done.stderr
    for path in (cluster.folder / "discoro_trio" / "launch", cluster.folder / "discoro_trio"):
        path.rmdir()


PROGRAM = """
import sys, trio, discoro_trio as discoro
async def main():
    slurm = discoro.launch.Slurm(3, cpus=1, folder=sys.argv[1], poll=0.5)
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=slurm):
        while [node.state for node in slurm.nodes] != ["running", "running", "starting"]:
            await slurm.until_changed()
        print("begun", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_or_interrupted_leaves_nothing_running_or_queued(
    cluster: Cluster, number: signal.Signals
) -> None:
    with running_program(cluster) as program:
        left = psutil.Process(program.pid).children(recursive=True)
        os.killpg(program.pid, number)  # as Ctrl-C does
        program.wait(SECONDS)
    cluster.wait_until_clean()
    wait_until_ended(left)


async def test_the_next_start_ends_what_is_left_when_nothing_else_could(cluster: Cluster) -> None:
    with running_program(cluster) as program:
        for process in [psutil.Process(program.pid), *psutil.Process(program.pid).children(recursive=True)]:
            process.kill()
        program.wait(SECONDS)
    wait_until_ended(cluster.nodes())
    assert [line for line in cluster.jobs() if "PENDING" in line or "RUNNING" in line] != []
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher(cluster, 1)) as _:
        assert len(cluster.jobs()) == 1, "only its own"


def running_program(cluster: Cluster) -> subprocess.Popen[bytes]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(cluster.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"begun\n"
    return program
