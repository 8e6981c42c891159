"""Several hosts on one machine: network namespaces, with bridges between them, routers and NAT.

This module owns their making, their end, also after a failure, and running programs at them. It needs root, `ip` of
iproute2 and, for NAT alone, `nft` of nftables; a test that finds them missing fails and says so.

    with open_network() as network:
        lan = network.add_lan()
        one, two = lan.add_hosts(2)
        print(await one.run("import socket; print(socket.gethostname())"))

A network has addresses of its own, IPv4 and IPv6; a host's interface in it is `eth0`. Nothing reaches this machine's
own interfaces.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[1]
_PREFIX = "discoro-test"
_NAMESPACES = Path("/run/netns")
_NOBODY = "02:00:00:00:00:01"
"""A hardware address that no interface has: what is sent to it reaches nobody, and the sender hears nothing of it."""
_SETTINGS = ("net/ipv6/conf/all/accept_dad", "net/ipv6/conf/default/accept_dad")  # 0: addresses count at once
_FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
_numbers = itertools.count()
RUN_SECONDS = 120.0
"""How long a program that `run` starts may take."""


class Namespace:
    """One network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._interfaces = itertools.count()
        ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")
        self.write(_SETTINGS, "0")

    def ip(self, *arguments: str) -> str:
        """Run `ip` here."""
        return ip("-n", self.name, *arguments)

    def write(self, settings: tuple[str, ...], value: str) -> None:
        """Set kernel settings here, by their paths below /proc/sys."""
        script = "; ".join(f"echo {value} > /proc/sys/{setting}" for setting in settings)
        subprocess.run(self.command("sh", "-c", script), check=True)

    def nft(self, rule: str) -> None:
        """Run `nft` here."""
        subprocess.run(self.command("nft", rule), check=True)

    def admit_only(self, port: int | None) -> None:
        """Drop what comes in, but for answers and new connections to one TCP port."""
        self.nft("add table inet only")
        self.nft("add chain inet only in { type filter hook input priority 0; policy drop; }")
        self.nft("add rule inet only in iif lo accept")
        self.nft("add rule inet only in ct state established,related accept")
        if port is not None:
            self.nft(f"add rule inet only in tcp dport {port} accept")

    def command(self, *arguments: str) -> list[str]:
        """Give the command that runs a command here."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def plug_in(self, lan: Lan, addresses: tuple[str, ...]) -> str:
        """Connect a new interface to a network; give its name."""
        interface = f"eth{next(self._interfaces)}"
        port = f"port{next(lan.ports)}"
        ip("link", "add", interface, "netns", self.name, "type", "veth", "peer", "name", port, "netns", lan.switch.name)
        lan.switch.ip("link", "set", port, "master", "br0", "up")
        for address in addresses:
            self.ip("addr", "add", address, *(("nodad",) if ":" in address else ("brd", "+")), "dev", interface)
        self.ip("link", "set", interface, "up")
        return interface

    async def run(self, source: str, *arguments: str) -> str:
        """Run a Python program here and give what it printed; fail the test when it fails.

        Args:
            source: The program; indentation that all its lines have is taken off.
            arguments: Its `sys.argv[1:]`.
        """
        with trio.fail_after(RUN_SECONDS):
            command = self.python(source, *arguments)
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, env=_environment()
            )
        if done.returncode:
            pytest.fail(f"at {self.name}: status {done.returncode}\n{done.stderr.decode()}")
        return done.stdout.decode()

    @asynccontextmanager
    async def running(self, source: str, *arguments: str) -> AsyncIterator[Program]:
        """Run a Python program here while the block runs; leaving it kills the program."""
        process = await trio.lowlevel.open_process(
            self.python(source, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        )
        program = Program(process)
        try:
            yield program
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                await program.aclose()

    def python(self, source: str, *arguments: str) -> list[str]:
        """Give the command that runs a Python program here."""
        return self.command(sys.executable, "-u", "-c", textwrap.dedent(source), *arguments)


class Host(Namespace):
    """A machine on one network.

    Attributes:
        address: Its IPv4 address.
        address6: Its IPv6 address.
    """

    def __init__(self, name: str, lan: Lan) -> None:
        super().__init__(name)
        self.lan = lan
        self.address, self.address6 = lan.take_addresses()
        self.plug_in(lan, lan.with_prefix(self.address, self.address6))


class Program:
    """A program that runs at a host.

    Attributes:
        process: Its process; `ip` has become it, so that signals reach it.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""

    async def line(self) -> str:
        """Wait for the next line that it prints; fail the test when none comes."""
        assert self.process.stdout is not None
        with trio.fail_after(RUN_SECONDS):
            while b"\n" not in self._rest:
                data = await self.process.stdout.receive_some()
                if not data:
                    pytest.fail(f"the program ended with {await self.process.wait()}; it printed last: {self._rest!r}")
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    async def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(line.encode() + b"\n")

    async def aclose(self) -> None:
        """Close the pipes to it."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                await pipe.aclose()


class Router(Namespace):
    """A machine between two networks. With NAT those inside can reach the outside, not the other way round.

    Attributes:
        outside: Its IPv4 address in the outer network.
    """

    def __init__(self, name: str, inside: Lan, outside: Lan, *, nat: bool) -> None:
        super().__init__(name)
        self.write(_FORWARDING, "1")
        near, near6 = inside.take_addresses()
        self.outside, far6 = outside.take_addresses()
        self.plug_in(inside, inside.with_prefix(near, near6))
        self._outer = self.plug_in(outside, outside.with_prefix(self.outside, far6))
        if nat:
            if shutil.which("nft") is None:
                pytest.fail("tests with NAT need `nft` (Debian: nftables)", pytrace=False)
            inside.add_routes(("default", near))
            self.nft("add table ip nat")
            self.nft("add chain ip nat post { type nat hook postrouting priority 100; }")
            self.nft("add chain ip nat pre { type nat hook prerouting priority -100; }")
            self.nft(f"add rule ip nat post oifname {self._outer} masquerade")
        else:
            inside.add_routes((str(outside.prefix), near), (str(outside.prefix6), near6))
            outside.add_routes((str(inside.prefix), self.outside), (str(inside.prefix6), far6))

    def forward_to(self, host: Host) -> None:
        """Send what arrives from outside for this router to one host inside, as for a host with `ext_ip_addr`."""
        self.nft(f"add rule ip nat pre iifname {self._outer} ip daddr {self.outside} dnat to {host.address}")


class Lan:
    """A network: a bridge to which hosts and routers are connected.

    Attributes:
        prefix: Its IPv4 network.
        prefix6: Its IPv6 network.
        switch: The namespace of its bridge, where everything that is sent in it passes.
    """

    def __init__(self, network: Network, number: int, prefix: str | None) -> None:
        self._network = network
        self.prefix = IPv4Network(prefix or f"10.77.{number}.0/24")
        self.prefix6 = IPv6Network(f"fd77:{number}::/64")
        self._numbers = itertools.count(1)
        self._routes: list[tuple[str, str]] = []
        self.hosts: list[Host] = []
        self.ports = itertools.count()
        self.switch = Namespace(network.name("lan"))
        # Without snooping, multicast reaches everybody, as in a network without a clever switch.
        self.switch.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self.switch.ip("link", "set", "br0", "up")

    def add_hosts(self, count: int) -> list[Host]:
        """Connect so many new hosts."""
        return [self.add_host() for _ in range(count)]

    def add_host(self) -> Host:
        """Connect a new host."""
        host = Host(self._network.name("host"), self)
        self.hosts.append(host)
        for route in self._routes:
            _route(host, *route)
        return host

    def add_routes(self, *routes: tuple[str, str]) -> None:
        """Let all hosts, also those to come, send what is for a network to a router."""
        for route in routes:
            self._routes.append(route)
            for host in self.hosts:
                _route(host, *route)

    def take_addresses(self) -> tuple[str, str]:
        """Give an IPv4 and an IPv6 address that nobody else here has."""
        number = next(self._numbers)
        return str(self.prefix[number]), str(self.prefix6[number])

    def with_prefix(self, *addresses: str) -> tuple[str, ...]:
        """Write addresses with the length of this network's prefix."""
        lengths = {True: self.prefix6.prefixlen, False: self.prefix.prefixlen}
        return tuple(f"{address}/{lengths[':' in address]}" for address in addresses)


class Network:
    """Everything that one test has built."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._lans = itertools.count(1)

    def add_lan(self, prefix: str | None = None) -> Lan:
        """Add a network.

        Args:
            prefix: Its IPv4 network, such as "10.1.0.0/24"; several may have the same. None for one of its own.
        """
        return Lan(self, next(self._lans), prefix)

    def add_router(self, inside: Lan, outside: Lan, *, nat: bool = False) -> Router:
        """Join two networks."""
        return Router(self.name("router"), inside, outside, nat=nat)

    def name(self, what: str) -> str:
        """Make a name for a namespace that no other has."""
        self._names.append(f"{_PREFIX}-{os.getpid()}-{next(_numbers)}-{what}")
        return self._names[-1]

    def remove(self) -> None:
        """Remove everything, also what was only half built."""
        for name in self._names:
            _remove(name)


@contextmanager
def open_network() -> Iterator[Network]:
    """Give an empty network, and remove what was built in it when the block is left."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.fail("tests with several hosts need root and `ip` (Debian: iproute2)", pytrace=False)
    _remove_left_behind()
    network = Network()
    try:
        yield network
    finally:
        network.remove()


def cut(one: Host, other: Host) -> None:
    """Let nothing pass between two hosts of one network, without either being told, until `heal`."""
    for host, peer in ((one, other), (other, one)):
        for address in _addresses(peer):
            host.ip("neigh", "replace", address, "lladdr", _NOBODY, "dev", "eth0", "nud", "permanent")


def heal(one: Host, other: Host) -> None:
    """End what `cut` did."""
    for host, peer in ((one, other), (other, one)):
        for address in _addresses(peer):
            host.ip("neigh", "del", address, "dev", "eth0")


def ip(*arguments: str) -> str:
    """Run `ip` and give what it printed."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"ip {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def _addresses(host: Host) -> list[str]:
    interfaces = json.loads(host.ip("-j", "addr", "show", "dev", "eth0"))
    return [entry["local"] for interface in interfaces for entry in interface["addr_info"]]


def _route(host: Host, destination: str, router: str) -> None:
    family = "-6" if ":" in router else "-4"
    host.ip(family, "route", "add", destination, "via", router)


def _remove(name: str) -> None:
    if (_NAMESPACES / name).exists():
        subprocess.run(["ip", "netns", "del", name], check=True)


def _remove_left_behind() -> None:
    """Remove what an earlier run left that was killed."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*"):
        process = path.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if not Path("/proc", process).exists():
            with suppress(subprocess.CalledProcessError):  # another run of today is doing the same
                _remove(path.name)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
