"""Ports that are free until a program of a test takes them."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack, suppress

LOWEST, FIRST_OF_THE_SYSTEM = 20_000, 32_768
"""The workers of a Ray cluster have those below the first; the system gives those from the second on to anybody."""


def free_ports(count: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[int]:
    """Return ports of TCP, or of UDP, that no program uses."""
    chance = random.Random(os.urandom(8))  # not what another test at the same time has
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
            with suppress(OSError):  # in use
                sock.bind(("", chance.randrange(LOWEST, FIRST_OF_THE_SYSTEM)))
                found.append(sock.getsockname()[1])
    return found


def free_tcp_port() -> int:
    """Return a port of TCP that no program uses."""
    return free_ports(1)[0]


def free_udp_port() -> int:
    """Return a port of UDP that no program uses."""
    return free_ports(1, socket.SOCK_DGRAM)[0]
