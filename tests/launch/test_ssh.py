"""Nodes that are started through OpenSSH, against its real server on loopback."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio.launch import Launcher, Ssh
from tests.cli.programs import ROOT, environment
from tests.launch.sshd import Sshd, running_sshd, wait_until_ended

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.program
SECONDS = 60.0


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_left(sshd: Sshd) -> Iterator[None]:
    yield
    wait_until_ended(sshd.processes())


async def double(value: int) -> int:
    return 2 * value


def launcher(sshd: Sshd, *hosts: str, python: str = sys.executable) -> Ssh:
    return Ssh(hosts, python=python, cpus=1, ssh_options=sshd.options)


async def until(launcher: Launcher, states: list[str]) -> None:
    with trio.fail_after(SECONDS):
        while [node.state for node in launcher.nodes] != states:
            await launcher.until_changed()


async def test_nodes_run_jobs_also_behind_a_jump_host_and_are_gone_after_the_block(sshd: Sshd) -> None:
    ssh = launcher(sshd, "worker1", "worker2", "far")
    with trio.fail_after(2 * SECONDS):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=ssh) as scheduler:
            await until(ssh, ["running"] * 3)
            async with discoro.Computation([double]).schedule(servers=3) as computation:
                assert await computation.run_result(double, 21) == 42
            assert {node.name for node in (await scheduler.status()).nodes} == {"worker1", "worker2", "far"}
            assert len(sshd.nodes()) == 3
            secret = scheduler._endpoint.credentials[b""].key.hex()
            for process in [*sshd.nodes(), *psutil.Process().children()]:
                assert not any(secret in text for text in [*process.cmdline(), *process.environ().values()])
            nodes = sshd.nodes()
            await ssh.take_back("far")
            assert [node.state for node in ssh.nodes] == ["running", "running", "ended"]
        wait_until_ended(nodes)


async def test_a_lost_connection_ends_the_node(sshd: Sshd) -> None:
    ssh = launcher(sshd, "worker1", "worker2")
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=ssh):
        await until(ssh, ["running", "running"])
        nodes = sshd.nodes()
        servers = [child for node in nodes for child in node.children(recursive=True)]
        clients = [one for one in psutil.Process().children() if one.name() == "ssh" and "worker1" in one.cmdline()]
        assert len(nodes) == 2
        clients[0].kill()
        await until(ssh, ["ended", "running"])
        assert "ssh ended with status -9" in ssh.nodes[0].reason
        await trio.to_thread.run_sync(sshd.wait_for_nodes, 1)
    wait_until_ended([*nodes, *servers])


async def test_what_a_node_writes_is_logged_with_its_host(sshd: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with (
        discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=launcher(sshd, "worker1")),
        discoro.Computation([double]).schedule() as computation,
    ):
        await computation.run_result(double, 1)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("discoro_trio.launch")]
    assert "the node worker1 has joined" in lines
    assert any(line.startswith("worker1: ") and "servers to the computation" in line for line in lines), lines


@pytest.mark.parametrize(
    ("host", "python", "text"),
    [
        ("stranger", sys.executable, r"stranger: ssh ended with status 255: .*Permission denied \(publickey"),
        ("worker1", "/no/such/python", r"worker1: ssh ended with status 12[67]: .*/no/such/python"),
        ("worker1", "/usr/bin/env python3 -c 1", r"worker1: ssh ended with status 12[67]: .*No such file"),
    ],
    ids=["refused key", "no interpreter", "a command in place of a path"],
)
async def test_the_error_says_why_a_host_has_no_node(sshd: Sshd, host: str, python: str, text: str) -> None:
    with pytest.raises(discoro.DiscoroError, match=text):
        async with discoro.open_scheduler(
            ip_addr="127.0.0.1", discover=False, launch=launcher(sshd, host, python=python)
        ):
            pytest.fail("the block has begun")


async def test_a_missing_ssh_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(discoro.DiscoroError, match="worker1: ssh cannot be started: No such file or directory"):
        async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=Ssh(["worker1"])):
            pytest.fail("the block has begun")


@pytest.mark.parametrize(
    ("hosts", "error", "text"),
    [
        ("worker1", TypeError, "hosts must be a list or tuple of host names"),
        ([], ValueError, "one host or more"),
        (["a", "a"], ValueError, "each once"),
        (["-oProxyCommand=id"], ValueError, "is no host name"),
        ([1], TypeError, "hosts must be a str"),
    ],
)
def test_hosts_that_ssh_would_misread_are_refused(hosts: list[str], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Ssh(hosts)


def test_the_command_line_and_an_example_use_ssh(sshd: Sshd, tmp_path: Path) -> None:
    options = [f"--ssh_option={option}" for option in sshd.options]
    command = [sys.executable, "-m", "discoro_trio", "launch", "ssh", "worker1", "far", "--python", sys.executable]
    command += ["--cpus", "1", "--no_discover", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as program:
        assert program.stdout is not None
        printed: list[str] = []
        while not all(any(f"{host} running at " in line for line in printed) for host in ("worker1", "far")):
            printed.append(program.stdout.readline())
            assert printed[-1], printed
        program.send_signal(signal.SIGINT)
        rest = program.stdout.read()
        program.wait(SECONDS)
    assert "worker1 ended: the scheduler's block was left" in rest
    assert program.returncode == 0
    wrapper = tmp_path / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {" ".join(sshd.options)} "$@"\n')
    wrapper.chmod(0o755)
    example = [sys.executable, str(ROOT / "examples" / "corpus.py"), "--files", "4", "--launch", "ssh:worker1,worker2"]
    variables = environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(example, capture_output=True, text=True, timeout=SECONDS, env=variables, check=False)
    assert "The totals are equal." in done.stdout, done.stderr


PROGRAM = """
import sys, trio, discoro_trio as discoro
async def main():
    ssh = discoro.launch.Ssh(["worker1", "far"], python=sys.executable, cpus=1, ssh_options=["-F", sys.argv[1]])
    async with discoro.open_scheduler(ip_addr="127.0.0.1", discover=False, launch=ssh):
        while any(node.state != "running" for node in ssh.nodes):
            await ssh.until_changed()
        print("begun", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_killed_or_interrupted_leaves_nothing(sshd: Sshd, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(sshd.config)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        left = [*psutil.Process(program.pid).children(recursive=True), *sshd.processes()]
        assert len(sshd.nodes()) == 2
        program.send_signal(number)
        program.wait(SECONDS)
    wait_until_ended(left)
