"""What options do in a program that runs; those with files of their own are in the other files here."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from tests._deadlines import Stopwatch
from tests._ports import free_tcp_port, free_udp_port
from tests.cli.programs import SECRET, environment, output, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.program

ALONE = ("--no_discover", "-c", "1")


async def nothing() -> str:
    await trio.lowlevel.checkpoint()
    return "done"


@pytest.mark.spec("S21", "S23")
async def test_ports_address_and_name_are_those_that_were_given() -> None:
    port = free_tcp_port()
    given = ("--tcp_ports", str(port), "--ext_ip_addr", "203.0.113.7", "--name", "somebody")
    async with running("--no_discover", *given) as scheduler:
        assert f"the scheduler somebody listens at 203.0.113.7:{port}" in await scheduler.says("listens at")


@pytest.mark.spec("S28")
@pytest.mark.parametrize(("flags", "told"), [((), False), (("--debug",), True)])
@pytest.mark.option("discoronode --debug", "discoro --debug")
@pytest.mark.parametrize("program", [("node", *ALONE, "--peer"), ("--no_discover", "--node")])
async def test_debug_logs_in_detail(program: tuple[str, ...], flags: tuple[str, ...], *, told: bool) -> None:
    nobody = f"127.0.0.1:{free_tcp_port()}"
    async with running(*program, nobody, *flags) as node:
        await node.says("cannot be reached")  # and then again and again, which is a detail
        with trio.move_on_after(20 if told else 3):
            await node.says("debug: ")
    assert any("debug: " in line for line in node.lines) == told


@pytest.mark.parametrize("program", [("node", *ALONE), ("--no_discover",)])
@pytest.mark.option("discoronode --log_format", "discoro --log_format")
async def test_every_line_of_a_log_in_json_is_an_object(program: tuple[str, ...]) -> None:
    async with running(*program, "--log_format", "json") as started:
        await started.says("listens at")
        started.process.terminate()
        assert await started.ended() == 0
        await started.says("ending")
    for entry in map(json.loads, started.lines):
        assert entry.keys() == {"time", "level", "logger", "message"}


@pytest.mark.spec("S39", "S40", "S55")
@pytest.mark.option("discoro --zombie_period")
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
@pytest.mark.option("discoronode --version", "discoro --version")
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


@pytest.mark.option("discoronode --msg_timeout", "discoro --msg_timeout")
@pytest.mark.parametrize("program", [("node", *ALONE, "--peer"), ("--no_discover", "--node")])
async def test_a_peer_that_never_answers_is_given_up_after_the_time_of_a_message(program: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        async with running(*program, place, "--msg_timeout", "0.5") as started:
            await started.location()
            watch = Stopwatch()
            await started.says(place)
        assert watch.undisturbed < 8  # 10 s by default


@pytest.mark.option("discoro --settle")
@pytest.mark.parametrize(("options", "reason"), [((), "no node is connected"), (("--settle",), "grants no servers")])
async def test_a_scheduler_that_settles_waits_for_the_leases_of_an_earlier_one(
    options: tuple[str, ...], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_udp_port()
    async with running("--udp_port", str(port), *options) as scheduler:
        place = await scheduler.location()
        with caplog.at_level(logging.INFO):
            async with discoro.open_endpoint(secret=SECRET, udp_port=port), trio.open_nursery() as nursery:

                async def wait_for_a_server() -> None:
                    async with discoro.Computation([nothing]).schedule(place, servers=1):
                        raise AssertionError

                nursery.start_soon(wait_for_a_server)
                with trio.fail_after(40):
                    while reason not in caplog.text:  # noqa: ASYNC110 - a log has no event
                        await trio.sleep(0.05)
                nursery.cancel_scope.cancel()


@pytest.mark.option("discoro --pulse_interval", "discoro --min_pulse_interval", "discoronode --min_pulse_interval")
async def test_a_node_that_stops_is_missed_after_five_of_the_given_intervals() -> None:
    shared = ("--udp_port", str(free_udp_port()), "--min_pulse_interval", "0.2")
    async with running(*shared, "--pulse_interval", "0.3") as scheduler, running("node", *shared, "-c", "1") as node:
        await scheduler.location()
        await node.says("joined")
        node.process.send_signal(signal.SIGSTOP)
        with trio.move_on_after(25):  # 50 s by default
            await scheduler.says("no heartbeat")
            return
        raise AssertionError(scheduler.lines)


@pytest.mark.option("discoro --node", "discoronode --peer")
@pytest.mark.parametrize("dials", ["discoro", "discoronode"])
async def test_programs_without_discovery_meet_at_the_named_address(dials: str) -> None:
    first, second = (
        (("node", *ALONE), ("--no_discover", "--node"))
        if dials == "discoro"
        else (("--no_discover",), ("node", *ALONE, "--peer"))
    )
    async with running(*first) as named:
        place = await named.location()
        async with running(*second, place) as dialling:
            await (dialling if dials == "discoronode" else named).says("joined")


COMMANDS = {
    "discoro status": ("status",),
    "discoro stacks": ("stacks",),
    "discoro cancel": ("cancel", "no-computation"),
    "discoro drain": ("drain", "no-node"),
}
"""The commands that ask a scheduler."""


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.option("discoro status --udp_port", "discoro stacks --udp_port", "discoro cancel --udp_port")
@pytest.mark.option("discoro drain --udp_port", "discoro status --secret_file", "discoro stacks --secret_file")
@pytest.mark.option("discoro cancel --secret_file", "discoro drain --secret_file")
async def test_commands_find_the_scheduler_of_their_port_and_secret(command: tuple[str, ...], tmp_path: Path) -> None:
    files = []
    for name, text in (("right", SECRET), ("wrong", "cd" * 32)):
        file = tmp_path / name
        file.touch(mode=0o600)
        file.write_text(text, encoding="ascii")
        files.append(str(file))
    right, wrong = files
    port = ("--udp_port", str(free_udp_port()))
    async with running(*port, "--secret_file", right, DISCORO_SECRET="") as scheduler:
        await scheduler.location()
        heard = await output(*command, *port, "--secret_file", right, DISCORO_SECRET="")
        told = heard.stdout + heard.stderr
        assert b"no scheduler" not in told, told
        refused = await output(*command, *port, "--secret_file", wrong, DISCORO_SECRET="")
        assert refused.returncode != 0
        assert b"secret" in refused.stderr + refused.stdout
