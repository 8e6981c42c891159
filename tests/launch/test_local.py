"""Nodes that a launcher runs as processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import trio
from joblib import Parallel, delayed, parallel_config

import discoro_trio as discoro
from discoro_trio._cluster._launcher import access_to
from discoro_trio.launch import LaunchedNode, Launcher, Local
from tests._loops import until_closed
from tests.launch.sshd import wait_until_ended

SECONDS = 60.0


async def double(value: int) -> int:
    return 2 * value


def node_processes() -> list[psutil.Process]:
    """Return the nodes that this process has started."""
    children = psutil.Process().children()
    return [one for one in children if "discoro_trio.launch._node" in one.cmdline()]


async def until(launcher: Launcher, states: list[str]) -> None:
    with trio.fail_after(SECONDS):
        while [node.state for node in launcher.nodes] != states:
            await launcher.until_changed()


async def test_nodes_run_jobs_and_are_gone_after_the_block() -> None:
    launcher = Local(2)
    with trio.fail_after(SECONDS):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher) as scheduler:
            await until(launcher, ["running", "running"])
            async with discoro.Computation([double]).schedule(servers=2) as computation:
                assert await computation.run_result(double, 21) == 42
            assert sorted(node.name for node in (await scheduler.status()).nodes) == ["local1", "local2"]
            processes = node_processes()
            assert len(processes) == 2
            environments = [" ".join([*one.cmdline(), *one.environ().values()]) for one in processes]
            secret = scheduler._endpoint.credentials[b""].key.hex()
            assert not any(secret in text for text in environments), "others can read these"
    assert node_processes() == []
    assert {node.state for node in launcher.nodes} == {"ended"}


async def test_a_node_that_is_killed_before_it_joins_is_reported_and_the_others_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    launcher = Local(2, kills={"local1": 0})
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        await until(launcher, ["ended", "running"])
        assert launcher.nodes[0].reason.endswith("ended with status -9")
        with pytest.raises(ValueError, match="'local2'"):
            await launcher.take_back("local3")
        await launcher.take_back("local2")
        assert launcher.nodes[1] == LaunchedNode(
            name="local2",
            state="ended",
            reason="it was taken back",
            location=launcher.nodes[1].location,
            taken_back=True,
        )
        assert node_processes() == []
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"the node local1 has ended: {launcher.nodes[0].reason}"
    ]


async def test_the_block_begins_with_the_first_node_and_ends_one_that_has_not_started() -> None:
    launcher = Local(2, delays={"local2": 1000})
    with trio.fail_after(SECONDS):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
            assert [node.state for node in launcher.nodes] == ["running", "starting"]


@pytest.mark.parametrize(
    ("launcher", "text"),
    [
        (Local(1, kills={"local1": 0}), r"no node could join.*local1: .* ended with status -9"),
        (Local(1, timeout=0.01), r"did not join within timeout=0\.01 s"),
        (Local(1, cpus=100_000), r"cpus: 100000 "),
    ],
    ids=["killed", "late", "refuses its options"],
)
async def test_without_any_node_the_block_does_not_begin(launcher: Local, text: str) -> None:
    with pytest.raises(discoro.DiscoroError, match=text):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
            pytest.fail("the block has begun")
    assert node_processes() == []


async def test_nodes_can_be_started_later_and_the_name_of_an_ended_one_is_used_again() -> None:
    launcher: Launcher = Local(2)
    with trio.fail_after(2 * SECONDS):
        async with (
            discoro.open_scheduler(ip_addr="127.0.0.1", discover=False) as scheduler,
            launcher.open(access_to(scheduler._endpoint, scheduler), count=0),
        ):
            assert not launcher.nodes
            assert launcher.start(2) == ("local1", "local2")
            await until(launcher, ["running", "running"])
            known = {one.location for one in (await scheduler.status()).nodes}
            assert {node.location for node in launcher.nodes} == known
            await launcher.take_back("local1")
            assert launcher.start(2) == ("local1", "local3")
            await until(launcher, ["running"] * 3)
    assert node_processes() == []
    with pytest.raises(RuntimeError, match="not open"):
        launcher.start(1)


async def test_cancelling_the_block_ends_the_nodes() -> None:
    with trio.move_on_after(SECONDS) as scope:
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Local()):
            scope.cancel()
            await trio.sleep_forever()
    assert node_processes() == []


async def test_an_exception_of_the_body_passes_unchanged() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Local()):
            raise KeyError("mine")  # noqa: EM101 - a sample
    assert node_processes() == []


async def test_a_launcher_serves_one_scheduler_at_a_time() -> None:
    launcher = Local()
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher):
        with pytest.raises(RuntimeError, match="in use"):
            async with launcher.open(discoro.launch.SchedulerAccess(location=discoro.Location("::1", 1), secret="")):
                pytest.fail("the block has begun")


def test_the_executor_launches_nodes() -> None:
    with discoro.Executor(launch=Local(), ip_addr="127.0.0.1", discover=False) as executor:
        assert executor.submit(pow, 2, 10).result(SECONDS) == 1024
    assert node_processes() == []


def test_the_blocking_client_and_joblib_launch_nodes() -> None:
    with discoro.connect(launch=Local(2), ip_addr="127.0.0.1", discover=False) as client:
        assert client.submit(pow, 2, 10).result(SECONDS) == 1024
    assert node_processes() == []
    with parallel_config(backend="discoro", launch=Local(2), ip_addr="127.0.0.1", discover=False, n_jobs=2):
        assert Parallel()(delayed(pow)(number, 2) for number in range(4)) == [0, 1, 4, 9]
        processes = node_processes()
    assert len(processes) == 2
    until_closed()
    wait_until_ended(processes)


async def test_something_else_than_a_launcher_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"launch must be a Launcher.*not 'ssh'"):
        async with discoro.open_scheduler(launch="ssh"):  # type: ignore[arg-type]
            pytest.fail("the block has begun")
    with pytest.raises(TypeError, match="launch must be a Launcher"):
        discoro.Executor(launch=["host"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"nodes": 0}, ValueError, "nodes must be 1 or more"),
        ({"delays": {"local2": 1}}, ValueError, r"delays: no node is named 'local2'; the names are local1"),
        ({"kills": {"local1": "soon"}}, TypeError, "kills must be a number"),
        ({"cpus": "all"}, TypeError, "cpus must be an int"),
        ({"timeout": "long"}, TypeError, "timeout must be a number"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Local(**arguments)  # type: ignore[arg-type]


PROGRAM = """
import trio, discoro_trio as discoro
async def main():
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=discoro.launch.Local()):
        print("begun", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.program
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_or_interrupted_leaves_no_node(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        left = psutil.Process(program.pid).children(recursive=True)
        assert len(left) >= 2, "a node and its fork server"
        os.killpg(program.pid, number)  # as Ctrl-C does
        program.wait(SECONDS)
    deadline = time.monotonic() + SECONDS
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in left):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
