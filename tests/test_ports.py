"""Every port that the programs open, and what a stranger gets there."""

from __future__ import annotations

import os
import pickle
import secrets
import socket
import stat
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio import Location
from discoro_trio._cluster import FOLDER_PREFIX
from discoro_trio._wire import Binding, ClientHandshake, Credential, Identity, Role, Seeker, encode_hello
from tests._ports import free_udp_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
SECONDS = 60
UDP_PORT = free_udp_port()
"""Neither that of a cluster that may be in use here, nor that of another run of tests."""

COMMON = ("--ip_addr", "127.0.0.1", "--udp_port", str(UDP_PORT), "--secret", "of the test, and long enough")
SECRET = COMMON[-1]


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def ports(process: psutil.Process) -> set[tuple[int, int]]:
    """Give the kind and number of every port that a process and its children have bound to receive."""
    found = set()
    for one in (process, *process.children(recursive=True)):
        for connection in one.net_connections("inet"):
            if connection.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}:
                found.add((int(connection.type), connection.laddr.port))
    return found


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[psutil.Process]:
    """Run a program of this package while the block lasts."""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(trio.run_process, [sys.executable, "-m", "discoro_trio", *command, *COMMON])
        yield psutil.Process(process.pid)
        process.terminate()


async def double(number: int) -> int:
    return 2 * number


@pytest.mark.slow
@pytest.mark.fault("F13")
@pytest.mark.spec("B07")
async def test_a_pickle_sent_to_every_port_of_node_scheduler_server_and_client_is_never_opened(tmp_path: Path) -> None:
    bomb = tmp_path / "opened"
    pickled = pickle.dumps(Bomb(bomb))
    with trio.fail_after(SECONDS):
        async with (
            running("node", "--cpus", "1") as node,
            running() as scheduler,
            discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=UDP_PORT, secret=SECRET),
            discoro.Computation([double]).schedule() as computation,
        ):
            assert await computation.run_result(double, 2) == 4
            attacked = {process: ports(process) for process in (node, scheduler, psutil.Process())}
            assert len([kind for kind, _ in attacked[node] if kind == socket.SOCK_STREAM]) >= 2  # the server's too
            assert all(attacked.values())
            for number in sorted(set().union(*attacked.values())):
                await attack(*number, pickled)
            assert await computation.run_result(double, 2) == 4
    assert not bomb.exists()
    pickle.loads(pickled)
    assert bomb.exists()  # it would have worked


@pytest.mark.slow
@pytest.mark.fault("F11", "F14")
async def test_no_port_answers_a_stranger_with_more_than_he_sent() -> None:
    with trio.fail_after(SECONDS):
        async with (
            running("node", "--cpus", "1", "--name", "n" * 300) as node,
            running() as scheduler,
            discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=UDP_PORT, secret=SECRET),
            discoro.Computation([double]).schedule() as computation,
        ):
            assert await computation.run_result(double, 2) == 4
            check_inside(node, scheduler, psutil.Process())
            found = set().union(*(ports(process) for process in (node, scheduler, psutil.Process())))
            measured = {(kind, port): await exchange(kind, port) for kind, port in sorted(found)}
    assert {kind for kind, _ in measured} == {socket.SOCK_STREAM, socket.SOCK_DGRAM}
    for pairs in measured.values():
        assert all(received <= sent for sent, received in pairs), measured
    assert any(received for pairs in measured.values() for _, received in pairs)  # a handshake is answered


def check_inside(*processes: psutil.Process) -> None:
    """Check that on this machine, too, there is nothing for others: no socket with a name, no folder that is open."""
    for one in {each for process in processes for each in (process, *process.children(recursive=True))}:
        assert {str(connection.laddr) for connection in one.net_connections("unix")} <= {""}
        segments = [path.name for path in opened(one) if path.name.startswith("memfd:")]
        assert all(name.startswith("memfd:discoro ") for name in segments)
    folders = list(Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"))
    ours = [folder for folder in folders if any(f"-{one.pid}-" in folder.name for one in processes)]
    assert ours
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in ours} == {0o700}


def opened(process: psutil.Process) -> Iterator[Path]:
    """Give what a process has open, by its names."""
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield path.readlink()


async def exchange(kind: int, port: int) -> list[tuple[int, int]]:
    """Send what strangers may send; give for each how many bytes went there and came back."""
    other = Credential(b"", b"x" * 32)
    if kind == socket.SOCK_DGRAM:
        roles = Role.NODE | Role.SCHEDULER | Role.PRIVATE
        query = Seeker(other, secrets.token_bytes(16), roles).query()
        return [await exchange_datagram(port, said) for said in (b"", b"?", query, bytes(len(query)))]
    me = Identity(secrets.token_bytes(16), sys.version_info[:2], "x", Location("127.0.0.1", 9))
    hello = encode_hello(ClientHandshake(me, other, Binding()).start())
    short = encode_hello(b"\x83" + b"\xa4type\xa5hello" + b"\xa8protocol\x01" + b"\xa6python\x92\x00\x00")
    strange = encode_hello(ClientHandshake(msgspec.structs.replace(me, protocol=999), other, Binding()).start())
    return [
        await exchange_stream(port, said) for said in (b"", b"?", short, hello, hello + hello, strange, bytes(5000))
    ]


async def exchange_datagram(port: int, said: bytes) -> tuple[int, int]:
    received = 0
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.sendto(said, ("127.0.0.1", port))
        with trio.move_on_after(0.2):
            received = len(await sock.recv(9000))
    return len(said), received


async def exchange_stream(port: int, said: bytes) -> tuple[int, int]:
    received = 0
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(said)
            await stream.send_eof()
            while data := await stream.receive_some():
                received += len(data)
    return len(said), received


async def attack(kind: int, port: int, pickled: bytes) -> None:
    """Send the pickle, bare and in frames, and hear nothing of use."""
    if kind == socket.SOCK_DGRAM:
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.sendto(pickled, ("127.0.0.1", port))
            with trio.move_on_after(0.2):
                pytest.fail(f"an answer: {await sock.recv(9000)!r}")
        return
    for before in (b"", b"\x0d\x00\x00\x00" + len(pickled).to_bytes(8, "big") + bytes(8), b"\x05" + bytes(19)):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(before + pickled)
                await stream.send_eof()
                assert await stream.receive_some() == b""
            except trio.BrokenResourceError:
                continue
