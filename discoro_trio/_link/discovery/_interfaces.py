"""The paths out of this machine: its interfaces, and how to send to all machines on the network of one of them.

This module owns the lookup of interfaces, addresses and networks, and the kernel's structures that choose an interface
for a datagram.
"""

from __future__ import annotations

import logging
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ..._records import Record

logger = logging.getLogger(__name__)

ANYBODY = "255.255.255.255"
"""The broadcast address for every machine on an interface's network, whatever the network's address is."""

THIS_MACHINE = "127.255.255.255"
"""Every process of this machine that listens at the port; the broadcast address of the loopback interface."""

# A link-local multicast address (RFC 4291, 2.7: scope 2) that needs no registration (flag T).
GROUP = "ff12::64:6973:636f:726f"
"""Every machine of an IPv6 link that takes part in discovery."""

_IP_PKTINFO = 8  # from <linux/in.h>; Python's socket module only has it since 3.14

Control = tuple[int, int, bytes]
"""Ancillary data for `sendmsg`: level, type, content."""


class NetworkPath(Record, frozen=True):
    """A path to a network: through one interface, from one address."""

    index: int
    """The interface's number."""
    address: IPv4Address | IPv6Address
    """The source address of the datagram."""
    broadcast: str = ""
    """The IPv4 network's broadcast address, if it has one."""

    @property
    def targets(self) -> list[str]:
        """The addresses that reach every machine on that network."""
        if self.address.version == 6:  # noqa: PLR2004 - the number of the protocol
            return [GROUP]
        return [self.broadcast, ANYBODY] if self.broadcast else [ANYBODY]

    @property
    def control(self) -> Control:
        """The ancillary data that sends a datagram on this path, whatever the routes are (ip(7), ipv6(7))."""
        if self.address.version == 6:  # noqa: PLR2004 - the number of the protocol
            content = self.address.packed + struct.pack("=I", self.index)
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, content
        content = struct.pack("=I4s4s", self.index, self.address.packed, bytes(4))
        return socket.IPPROTO_IP, _IP_PKTINFO, content


def ways_out() -> list[NetworkPath]:
    """Return the paths to the networks that this machine is part of, without loopback."""
    import psutil  # noqa: PLC0415 - programs that stay on this machine never need it

    ways = []
    try:
        interfaces = psutil.net_if_addrs()
    except OSError as error:  # no descriptor is left
        logger.warning("the networks of this machine could not be listed: %s", error)
        return []
    for name, addresses in interfaces.items():
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            continue  # the interface is gone already, or `name` is an alias of another's
        ways += [
            NetworkPath(index, IPv4Address(entry.address), entry.broadcast or "")
            for entry in addresses
            if entry.family == socket.AF_INET
        ]
        six = [IPv6Address(entry.address.partition("%")[0]) for entry in addresses if entry.family == socket.AF_INET6]
        if six:
            # One address is enough for each interface: one that is valid beyond the link, if there is one.
            ways.append(NetworkPath(index, min(six, key=lambda address: address.is_link_local)))
    return [way for way in ways if not way.address.is_loopback]


def share_a_network(one: str, other: str, zone: int = 0) -> bool:
    """Return whether an IPv4 and an IPv6 address belong to the networks of one interface of this machine.

    Args:
        one: An address.
        other: An address of the other protocol; for anything else the answer is no.
        zone: The number of the interface, if one of the addresses is link-local.
    """
    import psutil  # noqa: PLC0415 - as above

    try:
        addresses = {ip_address(one), ip_address(other)}
        if {address.version for address in addresses} != {4, 6}:
            return False
        interfaces = psutil.net_if_addrs()
        names = [socket.if_indextoname(zone)] if zone else list(interfaces)
    except (ValueError, OSError):  # a host name; no descriptor is left, or the interface is gone
        return False
    entries = (interfaces.get(name, []) for name in names)
    return any(all(any(_is_near(address, entry) for entry in near) for address in addresses) for near in entries)


def _is_near(address: IPv4Address | IPv6Address, entry: Any) -> bool:
    """Return whether an address is in the network of one of an interface's addresses."""
    if entry.family not in {socket.AF_INET, socket.AF_INET6} or not entry.netmask:
        return False
    here, mask = ip_address(entry.address.partition("%")[0]), int(ip_address(entry.netmask))
    return here.version == address.version and int(here) & mask == int(address) & mask
