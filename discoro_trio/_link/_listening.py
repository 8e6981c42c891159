"""Listening for connections: the address and port to listen at, and the address that is announced to peers.

This module owns the choice of the port, and the announced address of a process that listens at all its addresses. The
endpoint serves the connections.
"""

from __future__ import annotations

import errno
import os
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import trio

from ._option_error import OptionError
from .discovery._interfaces import ways_out

if TYPE_CHECKING:
    from collections.abc import Sequence

_IP_ADDR, _TCP_PORTS = "ip_addr", "tcp_ports"  # the options
_ATTEMPTS = 8  # to find one port that is free for IPv4 and IPv6

# An address reserved for documentation (RFC 5737), so no host has it. It is only looked up in the routing table.
_SOMEWHERE = ("198.51.100.1", 9)


async def open_listeners(ip_addr: str, ports: Sequence[int] = (0,)) -> list[trio.SocketListener]:
    """Listen at the first free one of several ports.

    Args:
        ip_addr: An address or host name of this machine; "" for all its addresses, of IPv4 and IPv6.
        ports: The ports; 0 for any.

    Raises:
        OptionError: The address does not belong to this machine, or no port is free.
    """
    for port in ports:
        try:
            return await (_listen(ip_addr, port) if port else _listen_anywhere(ip_addr))
        except socket.gaierror as error:
            raise OptionError(_IP_ADDR, f"{ip_addr!r} is not an address or host name: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise OptionError(_IP_ADDR, f"{ip_addr!r} is not an address of this machine") from error
            if error.errno != errno.EADDRINUSE:
                raise OptionError(_TCP_PORTS, f"cannot listen at {port}: {error.strerror}") from error
    raise OptionError(_TCP_PORTS, f"other programs use {_describe(ports)}; give more ports, or omit the option")


async def _listen(ip_addr: str, port: int) -> list[trio.SocketListener]:
    return await trio.open_tcp_listeners(port, host=for_lookup(ip_addr) if ip_addr else None)


async def _listen_anywhere(ip_addr: str) -> list[trio.SocketListener]:
    """Listen at one free port, the same for all addresses."""
    for _ in range(_ATTEMPTS):
        listeners = await _listen(ip_addr, 0)
        if len(listeners) == 1:
            return listeners
        port = listeners[0].socket.getsockname()[1]
        for listener in listeners:
            listener.socket.close()
        try:
            return await _listen(ip_addr, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def for_lookup(host: str) -> str | bytes:
    """Return a host name in the form that is looked up fastest: for str, Python first loads Unicode tables."""
    return host.encode() if host.isascii() else host


def _describe(ports: Sequence[int]) -> str:
    return f"port {ports[0]}" if len(ports) == 1 else f"all {len(ports)} ports from {min(ports)} to {max(ports)}"


def bound_to(listener: trio.SocketListener) -> str:
    """Return the address at which a listener listens; the unspecified address means all addresses."""
    host: str = listener.socket.getsockname()[0]
    return host


def is_everywhere(host: str) -> bool:
    """Return whether an address means all addresses of the machine."""
    return ip_address(host).is_unspecified


def main_address() -> str:
    """Find the address by which other machines reach this one: that of its default route, if it has one.

    Returns:
        An address; 127.0.0.1 if there is no network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)  # sends nothing
        except OSError:
            ways = sorted(ways_out(), key=lambda way: (way.address.version, way.address.is_link_local))
            return str(ways[0].address) if ways else "127.0.0.1"
        host: str = probe.getsockname()[0]
        return host
