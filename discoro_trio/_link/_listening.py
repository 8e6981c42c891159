"""Listening for connections: at which address and port, and which address peers are told.

This module owns the choice among ports, and what is told when a process listens at all its addresses. What is done
with the connections is with the endpoint.
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

# For the documentation of others (RFC 5737), so that nobody is there; it is looked up in the routes, and that is all.
_SOMEWHERE = ("198.51.100.1", 9)


async def open_listeners(ip_addr: str, ports: Sequence[int] = (0,)) -> list[trio.SocketListener]:
    """Listen at the first port of several that is free.

    Args:
        ip_addr: An address or host name of this machine; "" for all its addresses, of IPv4 and IPv6.
        ports: The ports; 0 for any.

    Raises:
        OptionError: The address is not of this machine, or no port is free.
    """
    for port in ports:
        try:
            return await (_listen(ip_addr, port) if port else _listen_anywhere(ip_addr))
        except socket.gaierror as error:
            raise OptionError(_IP_ADDR, f"{ip_addr!r} is no address or host name: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise OptionError(_IP_ADDR, f"{ip_addr!r} is no address of this machine") from error
            if error.errno != errno.EADDRINUSE:
                raise OptionError(_TCP_PORTS, f"{port} cannot be listened at: {error.strerror}") from error
    raise OptionError(_TCP_PORTS, f"other programs listen at {_describe(ports)}; give more, or leave it out")


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
    """Give an address or host name as it is looked up soonest: for text, Python loads tables of all alphabets first."""
    return host.encode() if host.isascii() else host


def _describe(ports: Sequence[int]) -> str:
    return f"port {ports[0]}" if len(ports) == 1 else f"all {len(ports)} ports from {min(ports)} to {max(ports)}"


def bound_to(listener: trio.SocketListener) -> str:
    """Give the address at which a listener listens; that of no interface stands for all."""
    host: str = listener.socket.getsockname()[0]
    return host


def is_everywhere(host: str) -> bool:
    """Tell whether an address stands for all those of the machine."""
    return ip_address(host).is_unspecified


def main_address() -> str:
    """Give the address by which other machines reach this one: that of its way to the internet, if it has one.

    Returns:
        An address; 127.0.0.1 where there is no network.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)  # which sends nothing
        except OSError:
            ways = sorted(ways_out(), key=lambda way: (way.address.version, way.address.is_link_local))
            return str(ways[0].address) if ways else "127.0.0.1"
        host: str = probe.getsockname()[0]
        return host
