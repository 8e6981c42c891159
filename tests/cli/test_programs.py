"""The programs as people run them: what they show, what they do when they are asked to end, and what cannot work."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import trio
import trustme

import discoro_trio as discoro
from discoro_trio._wire import PROTOCOL_VERSION
from tests._deadlines import within
from tests._ports import free_udp_port
from tests.cli.programs import SECRET, environment, output, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.programs import Program

pytestmark = pytest.mark.program

ORDERLY_SECONDS = 10.0
"""How long an orderly end may take (F23)."""


async def where(*, coro: discoro.Coro[Any]) -> str:
    await trio.lowlevel.checkpoint()
    return str(coro.location)


async def ignore_cancelling() -> None:
    while True:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(3600)


async def job() -> int:
    await trio.sleep(0.01)
    return os.getpid()


def names_in(folder: Path) -> list[str]:
    """Give the names of what is in a folder."""
    return [path.name for path in folder.iterdir()]


def lives(process: psutil.Process) -> bool:
    """Whether a process is there, and not just waits to be reaped by somebody."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def use(location: str, udp_port: int) -> str:
    """Run one coroutine with the scheduler at a place, and say where it ran."""
    with trio.fail_after(45):
        async with (
            discoro.open_endpoint(secret=SECRET, udp_port=udp_port),
            discoro.Computation([where]).schedule(location) as computation,
        ):
            return await computation.run_result(where)


@pytest.mark.spec("S01", "S34", "S37", "S41")
@pytest.mark.option("discoronode --cpus", "discoro status --json")
async def test_a_scheduler_and_a_node_find_each_other_and_serve_clients() -> None:
    udp_port = free_udp_port()
    quick = ("--udp_port", str(udp_port), "--min_pulse_interval", "0.1")
    async with running(*quick, "--pulse_interval", "0.1") as scheduler, running("node", *quick, "-c", "1") as node:
        place = await scheduler.location()
        assert (await use(place, udp_port)).startswith("127.0.0.1:")
        await node.says("is over")
        shown = await output("status", place, "--json")
        assert [row["servers"] for row in json.loads(shown.stdout)["nodes"]] == [1]
        shown = await output("doctor", "--udp_port", str(udp_port))
        assert shown.returncode == 0, shown.stdout
        assert shown.stdout.count(b"can be reached") == 2


async def wait_in_queue(computation: discoro.Computation, place: str) -> None:
    async with computation.schedule(place):
        raise AssertionError


async def end_server() -> None:
    await trio.lowlevel.checkpoint()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.spec("B39")
async def test_scheduler_and_node_log_computations_leases_and_ends_in_one_line_each() -> None:
    udp_port = str(free_udp_port())
    async with running("--udp_port", udp_port) as scheduler:
        place = await scheduler.location()
        async with running("node", "--udp_port", udp_port, "-c", "1", "--name", "alpha", "--peer", place) as node:
            await node.says("joined")
            async with discoro.open_endpoint(ip_addr="127.0.0.1", secret=SECRET, udp_port=int(udp_port)):
                first = discoro.Computation([end_server], name="first")
                second = discoro.Computation([end_server], name="sec\nond")
                async with first.schedule(place) as computation:
                    await scheduler.says("the computation first of ")
                    await scheduler.says("granted 1 of its servers to the computation first")
                    with pytest.raises(discoro.ServerLost):
                        await computation.run_result(end_server)
                    await node.says("server 1 of the computation first ended by signal 9 and is replaced")
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(wait_in_queue, second, place)
                        await scheduler.says("waits: place 1 in the queue, behind first of ")
                        nursery.cancel_scope.cancel()
                    await scheduler.says("the computation sec\\nond of ")
                    await scheduler.says("has left the queue")
                ended = await scheduler.says("is over")
                assert " the computation first of " in ended
            await node.says("the computation first is over")
            assert sum("ended by" in line for line in node.lines) == 1, "an orderly end of a server is not logged"
        await scheduler.says("the node alpha at ")


@pytest.mark.spec("S29", "S108")
@pytest.mark.option("discoronode --serve")
async def test_a_node_ends_after_so_many_computations() -> None:
    udp_port = free_udp_port()
    async with (
        running("node", "--udp_port", str(udp_port), "-c", "1", "--serve", "2") as node,
        discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=udp_port),
    ):
        for _ in range(2):
            async with discoro.Computation([where]).schedule() as computation:
                await computation.run_result(where)
        assert await node.ended() == 0


async def test_the_log_is_json_if_wanted() -> None:
    async with running("node", "--no_discover", "-c", "1", "--log_format", "json") as node:
        line = json.loads(await node.says("listens at"))
    assert line["level"] == "info"


@pytest.mark.option("discoronode --clean", "discoronode --dest_path")
async def test_what_a_killed_node_left_is_removed(tmp_path: Path) -> None:
    arguments = ("node", "--no_discover", "-c", "1", "--dest_path", str(tmp_path))
    async with running(*arguments) as node:
        await node.location()
        below = node.descendants()
        node.process.kill()
        await node.ended()
    (left,) = names_in(tmp_path)
    async with running(*arguments, "--clean") as node:
        await node.location()
        assert left not in names_in(tmp_path)
        node.process.terminate()
        assert await node.ended() == 0
    assert not names_in(tmp_path)
    assert not any(map(lives, below))


@pytest.mark.fault("F23")
@pytest.mark.spec("B20")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_node_under_load_ends_in_order_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    udp_port = free_udp_port()
    async with (
        running("node", "--udp_port", str(udp_port), "-c", "1", "--dest_path", str(tmp_path)) as node,
        discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, udp_port=udp_port),
    ):
        computation = discoro.Computation([job, ignore_cancelling], grace_period=1)
        with pytest.raises(BaseExceptionGroup):  # what was lost with the node
            async with computation.schedule():
                for function in (job, ignore_cancelling):
                    await computation.run(function)
                below = node.descendants()
                assert below
                node.process.send_signal(number)
                with within(ORDERLY_SECONDS):
                    assert await node.ended() == 0
    assert not names_in(tmp_path)
    assert not any(map(lives, below))


@pytest.mark.fault("F23")
@pytest.mark.spec("B20")
async def test_a_second_signal_ends_a_node_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    async with running("node", "--no_discover", "-c", "1", "--dest_path", str(tmp_path)) as node:
        await node.location()
        while not node.descendants():  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)
        below = node.descendants()
        os.kill(node.process.pid, signal.SIGSTOP)  # so that both arrive before it does anything
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            os.kill(node.process.pid, number)
        with within(2):
            await node.ended()
    with within(2):
        while any(map(lives, below)):  # noqa: ASYNC110 - nobody tells of it
            await trio.sleep(0.01)
    assert not names_in(tmp_path)


@pytest.mark.fault("F23")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_scheduler_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    async with running("--no_discover", XDG_STATE_HOME=str(tmp_path)) as scheduler:
        await scheduler.location()
        (name,) = names_in(tmp_path)
        assert len(names_in(tmp_path / name)) == 1
        scheduler.process.send_signal(number)
        with within(ORDERLY_SECONDS):
            assert await scheduler.ended() == 0
    assert names_in(tmp_path / name) == []


@pytest.mark.fault("F23")
@pytest.mark.spec("B19")
async def test_a_computation_goes_on_when_its_scheduler_ends_in_order_and_the_next_one_takes_it_over(
    tmp_path: Path,
) -> None:
    udp_port = free_udp_port()
    port = free_udp_port()
    arguments = ("--udp_port", str(udp_port), "--tcp_ports", str(port), "--no_discover")
    mark = tmp_path / "discoro_trio" / f"scheduler-{udp_port}"
    settings = {"XDG_STATE_HOME": str(tmp_path)}
    async with running(*arguments, **settings) as scheduler:
        place = await scheduler.location()
        async with running("node", "-c", "1", "--no_discover", "--peer", place) as node:
            await node.says("joined the scheduler")
            async with (
                discoro.open_endpoint(secret=SECRET, udp_port=udp_port),
                discoro.Computation([job]).schedule(place) as computation,
            ):
                pid = await computation.run_result(job)
                scheduler.process.terminate()
                assert await scheduler.ended() == 0
                assert mark.exists()
                node.lines.clear()
                async with running(*arguments, **settings) as again:
                    await again.location()
                    await node.says("joined the scheduler")
                    assert await computation.run_result(job) == pid
                    again.process.terminate()
                    assert await again.ended() == 0


@pytest.mark.fault("F24")
async def test_a_port_in_use_is_one_line_and_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = await output("--tcp_ports", port, "--no_discover")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "--tcp_ports" in line
    assert port in line


@pytest.mark.fault("F24")
async def test_a_folder_that_cannot_be_written_is_one_line_and_status_2() -> None:
    done = await output("node", "--dest_path", "/sys", "--no_discover")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "--dest_path" in line


@pytest.mark.fault("F24")
async def test_a_udp_port_of_another_program_is_one_line_and_status_2() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.255.255.255", 0))
        done = await output("node", "-c", "1", "--udp_port", str(other.getsockname()[1]))
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "--udp_port" in line


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("change", "theirs", "ours"),
    [
        ("endpoint.sys = SimpleNamespace(version_info=(3, 99))", "3.99", f"3.{sys.version_info.minor}"),
        ("endpoint.Identity = lambda **fields: handshake.Identity(protocol=98, **fields)", "98", str(PROTOCOL_VERSION)),
    ],
)
async def test_another_version_is_refused_within_a_second_with_both_named(change: str, theirs: str, ours: str) -> None:
    async with discoro.open_scheduler(ip_addr="127.0.0.1", secret=SECRET, discover=False) as scheduler:
        command = [sys.executable, "-c", CLIENT.replace("CHANGE", change), str(scheduler.location), SECRET]
        with trio.fail_after(45):
            done = await trio.run_process(command, capture_stdout=True, env=environment())
    text = done.stdout.decode()
    assert text.startswith("VersionMismatch")
    assert theirs in text
    assert ours in text
    assert float(text.split()[-1]) < 1.0


CLIENT = """
import sys, time, trio
from types import SimpleNamespace
import discoro_trio as discoro
import discoro_trio._link._endpoint as endpoint
import discoro_trio._wire._handshake as handshake

CHANGE

async def main():
    async with discoro.open_endpoint(secret=sys.argv[2]):
        start = time.monotonic()
        try:
            async with discoro.Computation([]).schedule(sys.argv[1]):
                print("it was accepted")
        except discoro.VersionMismatch as error:
            print("VersionMismatch", error, time.monotonic() - start)

trio.run(main)
"""
"""Another version, as far as the handshake can tell."""


async def test_the_mark_of_a_scheduler_stays_when_it_is_killed_and_goes_when_it_ends(tmp_path: Path) -> None:
    udp_port = free_udp_port()
    place = {"XDG_STATE_HOME": str(tmp_path)}
    mark = tmp_path / "discoro_trio" / f"scheduler-{udp_port}"
    async with running("--udp_port", str(udp_port), **place) as scheduler:
        await scheduler.location()
        assert is_there(mark)
        scheduler.process.kill()
        await scheduler.ended()
    assert is_there(mark)
    async with running("--udp_port", str(udp_port), **place) as scheduler:
        await scheduler.location()
        scheduler.process.terminate()
        assert await scheduler.ended() == 0
    assert not is_there(mark)


def is_there(path: Path) -> bool:
    """Whether there is such a file."""
    return path.exists()


NODE = ("node", "-c", "1")


async def shown_on_a_terminal(until: bytes, *options: str) -> bytes:
    """Run a program in a terminal until it shows, or logs, a text; give what the terminal showed."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "discoro_trio", *options, "--no_discover", "--name", "somebody"]
    process = await trio.lowlevel.open_process(command, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"))
    os.close(theirs)
    shown = b""
    try:
        with trio.fail_after(45):
            while until not in shown:
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 4096)
    finally:
        process.terminate()
        await process.wait()
        os.close(ours)
    return shown


async def test_on_a_terminal_a_program_shows_who_it_is() -> None:
    shown = await shown_on_a_terminal(b"Ctrl-C", *NODE)
    for text in (b"discoronode somebody", b"listens at  127.0.0.1:", b"fingerprint", b"servers     1, working in /"):
        assert text in shown


@pytest.mark.option("discoronode --daemon", "discoro --daemon")
@pytest.mark.parametrize("program", [NODE, ()])
async def test_a_daemon_shows_nothing_but_its_log(program: tuple[str, ...]) -> None:
    shown = await shown_on_a_terminal(b" listens at ", *program, "--daemon")
    assert len(shown.splitlines()) == 1


async def test_outside_of_its_hours_a_node_does_not_serve() -> None:
    later = [(datetime.now().astimezone() + timedelta(hours=hours)).strftime("%H:%M") for hours in (2, 3)]
    async with running("node", "--no_discover", "--service_start", later[0], "--service_stop", later[1]) as node:
        await node.says(f"begin at {later[0]}")
        node.process.terminate()
        assert await node.ended() == 0
    assert not any("listens at" in line for line in node.lines)


@pytest.mark.spec("S26")
async def test_the_secret_of_a_file_is_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    file.write_text("cd" * 32, encoding="ascii")
    shown = await output("secret", "show", "--secret_file", str(file))
    fingerprint = shown.stdout.decode().split()[1]
    checked = await output("doctor", "--no_discover", "--secret_file", str(file), "-u", str(free_udp_port()))
    assert fingerprint in checked.stdout.decode()


@pytest.mark.fault("F24")
async def test_a_folder_that_is_mounted_read_only_is_one_line_and_status_2(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts a folder, and needs root", pytrace=False)
    script = (
        'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -m discoro_trio node --dest_path "$1"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    with trio.fail_after(45):
        done = await trio.run_process(command, capture_stderr=True, check=False, env=environment())
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "--dest_path" in line
    assert "Read-only" in line


def certificate(folder: Path, name: str, *, expired: bool = False) -> tuple[str, str]:
    """Write a certificate and its key; give their paths."""
    authority = trustme.CA()
    expires = datetime(2001, 1, 1, tzinfo=UTC) if expired else None
    made = authority.issue_cert("localhost", not_before=datetime(2000, 1, 1, tzinfo=UTC), not_after=expires)
    certfile, keyfile = folder / f"{name}.pem", folder / f"{name}.key"
    made.cert_chain_pems[0].write_to_path(str(certfile))
    made.private_key_pem.write_to_path(str(keyfile))
    return str(certfile), str(keyfile)


@pytest.mark.fault("F24")
@pytest.mark.spec("S27")
@pytest.mark.parametrize(("wrong", "option"), [("missing", "certfile"), ("expired", "certfile"), ("other", "keyfile")])
async def test_a_certificate_that_cannot_serve_is_one_line_and_status_2(
    wrong: str, option: str, tmp_path: Path
) -> None:
    certfile, keyfile = certificate(tmp_path, "own", expired=wrong == "expired")
    if wrong == "missing":
        certfile = str(tmp_path / "none.pem")
    elif wrong == "other":
        _, keyfile = certificate(tmp_path, "other")
    done = await output("--no_discover", "--certfile", certfile, "--keyfile", keyfile)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert f"--{option}" in line


@pytest.mark.spec("S27")
async def test_a_certificate_of_ones_own_is_used(tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path, "own")
    async with running("--no_discover", "--certfile", certfile, "--keyfile", keyfile) as scheduler:
        assert await scheduler.location()


@pytest.mark.fault("F07")
@pytest.mark.spec("S52")
async def test_the_servers_of_a_node_that_is_stopped_end_themselves_and_others_come_when_it_goes_on() -> None:
    async with running("node", "--no_discover", "-c", "1", "--min_pulse_interval", "0.2") as node:
        await node.location()
        before = await servers_of(node)
        node.process.send_signal(signal.SIGSTOP)
        with trio.fail_after(40):
            while any(map(lives, before)):  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.02)
        node.process.send_signal(signal.SIGCONT)
        with trio.fail_after(40):
            assert set(await servers_of(node)).isdisjoint(before)


async def servers_of(node: Program) -> list[psutil.Process]:
    """Wait until a node has servers, which its fork server has started, and give them."""
    while True:
        fork_servers = psutil.Process(node.process.pid).children()
        servers = [server for fork_server in fork_servers for server in fork_server.children() if lives(server)]
        if servers:
            return servers
        await trio.sleep(0.02)
