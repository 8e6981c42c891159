"""A bare pair of `ssl` sockets that block, between this process and one more: the floor of all that goes over TLS.

``python -m benchmarks.floor._tls_pair ADDRESS PORT ROLE...`` is the other process; it dials this one for each role.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from benchmarks._network import ends
from benchmarks._scale import bulk_payload
from benchmarks._systems import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ACCEPT_SECONDS = 20.0

SWITCH_SECONDS = 0.0002
"""The interpreter's switch interval while a process has several threads: by default one waits 5 ms for another."""


@contextmanager
def open_tls_pair(role: str) -> Iterator[ssl.SSLSocket]:
    """Start the other process, which plays a role of `ROLES`, and yield this end of the connection."""
    with open_tls_pairs(role) as [sock]:
        yield sock


@contextmanager
def open_tls_pairs(*roles: str) -> Iterator[list[ssl.SSLSocket]]:
    """Start the other process, which plays each role on a connection and in a thread; yield this end of each."""
    from discoro_trio._link.tls._certificate import load_made_here  # noqa: PLC0415 - only this end has a certificate

    where = ends("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_made_here(context)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((where.near, 0)))
        listener.settimeout(_ACCEPT_SECONDS)
        address = [where.near, str(listener.getsockname()[1])]
        command = [*where.far_command, sys.executable, "-m", "benchmarks.floor._tls_pair", *address, *roles]
        stack.enter_context(subprocess.Popen(command, cwd=ROOT))
        socks: list[ssl.SSLSocket] = []
        for _ in roles:
            accepted, _ = listener.accept()
            accepted.settimeout(None)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socks.append(stack.enter_context(context.wrap_socket(accepted, server_side=True)))
        yield socks


def receive_exactly(sock: ssl.SSLSocket, memory: memoryview) -> bool:
    """Fill the memory; False if the stream ended first."""
    filled = 0
    while filled < len(memory):
        received = sock.recv_into(memory[filled:])
        if not received:
            return False
        filled += received
    return True


def _echo(sock: ssl.SSLSocket) -> None:
    memory = memoryview(bytearray(len(bulk_payload())))
    while receive_exactly(sock, memory):
        sock.sendall(memory)


def _take(sock: ssl.SSLSocket) -> None:
    memory = memoryview(bytearray(len(bulk_payload())))
    while receive_exactly(sock, memory):
        sock.sendall(b"x")


def _drop(sock: ssl.SSLSocket) -> None:
    memory = memoryview(bytearray(len(bulk_payload())))
    while receive_exactly(sock, memory):
        pass


def _echo_small(sock: ssl.SSLSocket) -> None:
    memory = memoryview(bytearray(1))
    while receive_exactly(sock, memory):
        sock.sendall(memory)


ROLES: dict[str, Callable[[ssl.SSLSocket], None]] = {
    "echo": _echo,
    "take": _take,
    "drop": _drop,
    "echo_small": _echo_small,
}


def main(address: str, port: str, *roles: str) -> None:
    """Dial the first process once for each role, in this order, and play each until its connection is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if len(roles) > 1:
        sys.setswitchinterval(SWITCH_SECONDS)
    for role in roles:
        sock = context.wrap_socket(socket.create_connection((address, int(port))))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_play, args=(role, sock)).start()


def _play(role: str, sock: ssl.SSLSocket) -> None:
    with sock:
        ROLES[role](sock)


if __name__ == "__main__":
    main(*sys.argv[1:])
