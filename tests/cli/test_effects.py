"""What options do in a program that runs; those with files of their own are in the other files here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from tests.cli.programs import SECRET, environment, free_udp_port, output, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.program

ALONE = ("--no_discover", "-c", "1")


async def nothing() -> str:
    await trio.lowlevel.checkpoint()
    return "done"


def free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.spec("S21", "S23")
async def test_ports_address_and_name_are_those_that_were_given() -> None:
    port = free_tcp_port()
    given = ("--tcp_ports", str(port), "--ext_ip_addr", "203.0.113.7", "--name", "somebody")
    async with running("--no_discover", *given) as scheduler:
        assert f"the scheduler somebody listens at 203.0.113.7:{port}" in await scheduler.says("listens at")


@pytest.mark.spec("S28")
@pytest.mark.parametrize(("flags", "told"), [((), False), (("--debug",), True)])
async def test_debug_logs_in_detail(flags: tuple[str, ...], *, told: bool) -> None:
    nobody = f"127.0.0.1:{free_tcp_port()}"
    async with running("node", *ALONE, "--peer", nobody, *flags) as node:
        await node.says("cannot be reached")  # and then again and again, which is a detail
        with trio.move_on_after(20 if told else 3):
            await node.says("debug: ")
    assert any("debug: " in line for line in node.lines) == told


@pytest.mark.parametrize("program", [("node", *ALONE), ("--no_discover",)])
async def test_every_line_of_a_log_in_json_is_an_object(program: tuple[str, ...]) -> None:
    async with running(*program, "--log_format", "json") as started:
        await started.says("listens at")
        started.process.terminate()
        assert await started.ended() == 0
        await started.says("ending")
    for entry in map(json.loads, started.lines):
        assert entry.keys() == {"time", "level", "logger", "message"}


@pytest.mark.spec("S39", "S40", "S55")
async def test_a_shared_scheduler_closes_computations_that_leave_their_servers_idle() -> None:
    port = free_udp_port()
    shared = ("--udp_port", str(port))
    async with running(*shared, "--zombie_period", "0.5") as scheduler, running("node", *shared, "-c", "1") as node:
        place = await scheduler.location()
        await node.says("joined")
        async with (
            discoro.open_endpoint(secret=SECRET, udp_port=port),
            discoro.Computation([nothing], zombie_period=3600).schedule(place) as computation,
        ):
            with trio.fail_after(40), pytest.raises(discoro.ComputationClosed, match="zombie period"):
                while True:
                    await computation.run_result(nothing)
                    await trio.sleep(2)


@pytest.mark.spec("S38")
async def test_who_is_not_to_be_discovered_is_not_found_and_can_be_named() -> None:
    port = ("--udp_port", str(free_udp_port()))
    async with running(*port, "--no_discover") as hidden:
        place = await hidden.location()
        shown = await output("doctor", *port)
        assert b"no node and no scheduler has answered" in shown.stdout
        assert (await output("status", place, *port)).returncode == 0


async def test_the_doctor_ends_with_1_where_something_will_not_work(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET, encoding="ascii")
    secret.chmod(0o644)
    for module in (("doctor",), ("doctor", "--peer", f"127.0.0.1:{free_tcp_port()}")):
        given = () if len(module) > 1 else ("--secret_file", str(secret))
        shown = await output(*module, *given, "-u", str(free_udp_port()))
        assert shown.returncode == 1
        assert b"problem" in shown.stdout
        assert "→".encode() in shown.stdout


@pytest.mark.parametrize("program", [("node",), ()])
async def test_the_version_is_printed(program: tuple[str, ...]) -> None:
    shown = await output(*program, "--version")
    assert shown.stdout.decode().split() == ["discoronode" if program else "discoro", version("discoro_trio")]


@pytest.mark.parametrize(
    ("name", "function", "typed", "offered"),
    [
        ("discoronode", "run_node", "--service", "--service_stop"),
        ("discoronode", "run_node", "--max-f", "--max-file-size"),
        ("discoro", "run_discoro", "sec", "secret"),
    ],
)
def test_a_shell_is_given_the_names_that_begin_with_what_was_typed(
    name: str, function: str, typed: str, offered: str
) -> None:
    asked = {f"_{name.upper()}_COMPLETE": "bash_complete", "COMP_WORDS": f"{name} {typed}", "COMP_CWORD": "1"}
    program = f"from discoro_trio._cli import {function}; {function}()"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment(**asked)
    )
    assert f"plain,{offered}" in shown.stdout.splitlines()
