"""What the options of `discoronode` and `discoro` do, seen by their peers, and those of commands that print."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

import discoro_trio as discoro
from discoro_trio._cli import _doctor, run_discoro
from discoro_trio._link import EndpointOptions, open_with
from discoro_trio._link.tls import _tls
from discoro_trio._wire import Role
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, environment, running
from tests.cli.test_endpoint_options import Certificates, as_options, scheduler_in_a_thread

if TYPE_CHECKING:
    from pathlib import Path

ADDR = f"127.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}.1"
"""An address of this machine that no other test uses."""
PORT = 20001
PROGRAMS = {"discoronode": ("node", "-c", "1"), "discoro": ()}
ROLES = {"discoronode": Role.NODE, "discoro": Role.SCHEDULER}
each_program = pytest.mark.parametrize("program", PROGRAMS)
program_mark = pytest.mark.program


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


async def name_at(place: str, **options: str) -> str:
    """Connect to a program, and return its name."""
    given: dict[str, Any] = {"secret": SECRET, **options}
    async with open_with(EndpointOptions(**given)) as endpoint:
        return (await endpoint.link_at(discoro.Location.parse(place))).peer.name


@program_mark
@each_program
@pytest.mark.option("PROGRAMS --ip_addr", "PROGRAMS --tcp_ports", "PROGRAMS --name", "PROGRAMS --secret")
@pytest.mark.option("PROGRAMS --config")
async def test_a_program_is_reached_at_its_address_port_and_secret_by_the_name_of_its_file(
    program: str, tmp_path: Path
) -> None:
    file = tmp_path / "options.toml"
    file.write_text('name = "of the file"\nno-discover = true\n', encoding="utf-8")
    options = ("--ip_addr", ADDR, "--tcp_ports", f"{PORT}-{PORT + 3}", "--secret", "cd" * 32, "--config", str(file))
    async with running(*PROGRAMS[program], *options) as started:
        place = await started.location()
        assert place == f"{ADDR}:{PORT}"
        assert await name_at(place, secret="cd" * 32) == "of the file"
        with pytest.raises(discoro.AuthenticationError):
            await name_at(place)
    async with running(*PROGRAMS[program], *options, "--name", "given") as started:
        assert await name_at(await started.location(), secret="cd" * 32) == "given"


@program_mark
@each_program
@pytest.mark.option("PROGRAMS --ext_ip_addr", "PROGRAMS --udp_port", "PROGRAMS --no_discover", "PROGRAMS --secret_file")
async def test_a_program_is_found_at_its_udp_port_with_the_outer_address_unless_it_hides(
    program: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("cd" * 32, encoding="ascii")
    port = free_udp_port()
    options = ("--ext_ip_addr", "203.0.113.7", "--udp_port", str(port), "--secret_file", str(secret))
    for hidden in (False, True):
        async with (
            running(*PROGRAMS[program], *options, *(["--no_discover"] if hidden else []), DISCORO_SECRET="") as started,
            open_with(EndpointOptions(secret="cd" * 32, udp_port=port)) as endpoint,
        ):
            place = await started.location()
            assert endpoint.discovery is not None
            found = await endpoint.discovery.find(ROLES[program], 1.0)
            with trio.fail_after(60):
                while not found and not hidden:
                    found = await endpoint.discovery.find(ROLES[program], 1.0)
            assert {str(one.location) for one in found} == (set() if hidden else {place})
            assert place.startswith("203.0.113.7:")


UNDER_TLS = """
import sys
from discoro_trio._cli import run_package
from discoro_trio._link.tls import _tls
_tls.is_local = lambda stream: False
run_package(sys.argv[1:])
"""
"""The programs, with encrypted connections on this machine too."""


@program_mark
@each_program
@pytest.mark.option("PROGRAMS --certfile", "PROGRAMS --keyfile", "PROGRAMS --cafile")
async def test_a_program_shows_its_certificate_and_accepts_those_of_the_authority_only(
    program: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tls, "is_local", lambda _stream: False)
    known, other = certificates.cafiles
    own, others = certificates.pairs
    options = ("--no_discover", "--name", "somebody", *as_options(own), "--cafile", known)
    # A node starts its servers by itself, which are no test of this: it has none that listen before it does.
    async with running(*PROGRAMS[program], *options, program=("-c", UNDER_TLS)) as started:
        place = await started.location()
        assert await name_at(place, cafile=known, **own) == "somebody"
        for peer in ({"cafile": other, **own}, {"cafile": known}, {"cafile": known, **others}):
            with pytest.raises(discoro.DiscoroError):
                await name_at(place, **peer)


@program_mark
@each_program
@pytest.mark.option("PROGRAMS --ping_interval")
async def test_a_program_looks_for_others_as_often_as_it_says(program: str) -> None:
    port = free_udp_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind(("127.255.255.255", port))
        plain.settimeout(0)
        listener = trio.socket.from_stdlib_socket(plain)
        async with running(*PROGRAMS[program], "--udp_port", str(port), "--ping_interval", "0.3"):
            times = []
            with trio.fail_after(120):
                for _ in range(10):
                    await listener.recvfrom(2048)
                    times.append(trio.current_time())
    assert times[-1] - times[0] < 60  # about 90 s by default, at least


@program_mark
@pytest.mark.option("discoro --max_pulse_interval")
async def test_a_scheduler_bounds_the_pulse_interval_of_computations() -> None:
    shared = ("--udp_port", str(free_udp_port()), "--min_pulse_interval", "0.1", "--max_pulse_interval", "0.3")
    async with running(*shared) as scheduler, running("node", *shared, "-c", "1") as node:
        place = await scheduler.location()
        await node.says("joined")
        async with (
            discoro.open_endpoint(secret=SECRET),
            discoro.Computation([], pulse_interval=60).schedule(place, servers=1),
        ):
            node.process.send_signal(signal.SIGSTOP)
            with trio.fail_after(150):  # 300 s by the computation's own interval
                await scheduler.says("no heartbeat")
            node.process.send_signal(signal.SIGCONT)


@program_mark
@pytest.mark.option("discoronode --max_pulse_interval")
async def test_a_node_sends_heartbeats_at_its_longest_interval_whatever_its_scheduler_says() -> None:
    port = free_udp_port()
    bounds = ("--min_pulse_interval", "0.1", "--max_pulse_interval", "0.3")
    async with (
        discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=port) as scheduler,
        running("node", "--udp_port", str(port), "-c", "1", *bounds) as node,
    ):
        await node.says("joined")
        heartbeats, before = 0, -1.0
        with trio.fail_after(80):  # the scheduler asks for one in 10 s
            while heartbeats < 10:
                (row,) = (await scheduler.status()).nodes
                heartbeats += row.silence < before
                before = row.silence
                await trio.sleep(0.02)


@program_mark
@pytest.mark.option("discoro --dest_path", "discoro --max_file_size")
async def test_files_that_are_sent_to_a_scheduler_are_in_its_folder_and_not_larger_than_it_says(tmp_path: Path) -> None:
    folder, file = tmp_path / "there", tmp_path / "file"
    folder.mkdir()
    file.write_bytes(bytes(2048))
    options = ("--no_discover", "--dest_path", str(folder), "--max_file_size", "2K")
    async with running(*options) as scheduler, discoro.open_endpoint(secret=SECRET):
        place = await scheduler.location()
        await discoro.send_file(place, file)
        assert [path.stat().st_size for path in folder.rglob("file")] == [2048]
        file.write_bytes(bytes(2049))
        with pytest.raises(discoro.FileTransferError, match="max_file_size"):
            await discoro.send_file(place, file, overwrite=True)


@program_mark
@pytest.mark.option("discoro top --once")
async def test_top_prints_once_on_a_terminal_if_asked_to() -> None:
    async with discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, discover=False) as scheduler:
        ours, theirs = os.openpty()
        command = [sys.executable, "-m", "discoro_trio", "top", "--once", str(scheduler.location)]
        try:
            with trio.fail_after(60):  # without the option it runs until the key q
                done = await trio.run_process(
                    command, stdin=theirs, stdout=theirs, env=environment(TERM="xterm"), check=False
                )
            assert done.returncode == 0
            assert b"cluster" in os.read(ours, 65536)
        finally:
            os.close(ours)
            os.close(theirs)


class Monitor(BaseHTTPRequestHandler):
    """Notes with which tokens it is asked, and refuses them."""

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_error(401)

    def log_message(self, *_arguments: object) -> None: ...


@pytest.mark.option("discoro top --token")
def test_top_sends_its_token_to_the_monitor() -> None:
    with HTTPServer(("127.0.0.1", 0), Monitor) as server:
        server.tokens = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(SystemExit):
                run_discoro(["top", f"http://127.0.0.1:{server.server_port}", "--token", "a-token-of-people"])
        finally:
            server.shutdown()
            thread.join()
        assert set(server.tokens) == {"Bearer a-token-of-people"}  # type: ignore[attr-defined]


@pytest.mark.option("discoro stacks --limit", "discoro stacks --full", "discoro stacks --coroutine")
def test_stacks_shows_as_much_as_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def tasks(*options: str) -> int:
        with pytest.raises(SystemExit) as ended:
            run_discoro(["stacks", peers.place, "--json", "--ip_addr", "127.0.0.1", "--secret", SECRET, *options])
        assert not ended.value.code
        (process,) = json.loads(capsys.readouterr().out)
        return len(process["picture"]["tasks"])

    with scheduler_in_a_thread(discover=False) as peers:
        assert tasks("--full") > 2 > tasks() > 0
        assert tasks("--full", "--limit", "2") == 2
        assert tasks("--coroutine", "of-no-name") == 0


@pytest.mark.option("discoro doctor --dest_path", "discoro doctor --cgroup")
def test_the_doctor_checks_the_folders_that_it_is_given(tmp_path: Path) -> None:
    given = ["--dest_path", str(tmp_path / "none"), "--cgroup", str(tmp_path), "--secret", SECRET, "--no_discover"]
    result = CliRunner().invoke(_doctor.doctor, [*given, "--ip_addr", "127.0.0.1"], env={"NO_COLOR": "1"})
    assert f"problem  {tmp_path / 'none'} does not exist" in result.output
    assert "give another --cgroup" in result.output
    assert result.exit_code == 1
