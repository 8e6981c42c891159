"""`discoro doctor`: checks what the programs need, and advises how to provide what is missing.

This module owns the checks and their advice. It changes nothing, except that it creates a missing secret as any
program does.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click
import trio

from .._cluster import find_groups
from .._errors import AuthenticationError, DiscoroError, VersionMismatch
from .._link import (
    UDP_PORT,
    EndpointOptions,
    OptionError,
    Ports,
    fingerprint_of,
    open_with,
    parse_ports,
    resolve_peers,
    secret_file,
)
from .._wire import Found, Role
from ._common import network_options, security_options, version_of
from ._options import GroupedCommand, option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .._link import Endpoint
    from .._values import Location

_ENDPOINT = (
    *("ip_addr", "ext_ip_addr", "tcp_ports", "udp_port", "name"),
    *("secret", "secret_file", "certfile", "keyfile", "cafile"),
)
"""Options that are passed to the endpoint."""
GOOD, WARNING, BAD = "ok", "warning", "problem"
_COLOURS = {GOOD: "green", WARNING: "yellow", BAD: "red"}
_LOOK_SECONDS = 2.0
_FEW_FILES = 4096
_LITTLE_SPACE = 512 * 1024**2
_NAMED = "without --no_discover discovery finds its port; with it, name the port: --peer HOST:PORT"
_HELD = {"memory": "memory", "pids": "processes"}


@attrs.frozen
class Check:
    """One check and its result."""

    level: str
    """`ok`, `warning` or `problem`."""
    text: str
    """The result."""
    advice: str = ""
    """What the user does about it."""


@click.command(cls=GroupedCommand)
@option(
    "--peer",
    multiple=True,
    metavar="HOST[:PORT]",
    group="Network",
    help="Machine to reach, such as node7 or node7:51351; repeatable.",
)
@option("--dest_path", group="Files", help="Folder in which working folders will be created.")
@option("--cgroup", multiple=True, metavar="FOLDER", group="Servers", help="Control group created for the node.")
@network_options()
@security_options()
@click.pass_context
def doctor(ctx: click.Context, /, **options: Any) -> None:
    """Check ports, secret, limits, reachable peers and versions; print advice.

    Pass the options that the program will have. The exit status is 1 if something will not work.
    """
    found = [*check_versions(), *check_limits(), check_groups(options["cgroup"])]
    found += [*check_folder(options["dest_path"]), *check_ports(options)]
    found += trio.run(check_network, options)
    coloured = not os.environ.get("NO_COLOR")
    for check in found:
        level = f"{check.level:<8}"
        click.echo(f"{click.style(level, fg=_COLOURS[check.level]) if coloured else level} {check.text}")
        if check.advice:
            click.echo(f"{'':<8} → {check.advice}")
    ctx.exit(int(any(check.level == BAD for check in found)))


def check_versions() -> Iterator[Check]:
    """Report Python and platform; client and servers need the same minor version of Python."""
    names = ", ".join(f"{name} {version_of(name)}" for name in ("discoro_trio", "trio", "msgspec", "cloudpickle"))
    yield Check(GOOD, f"Python {platform.python_version()} ({sys.executable}), {names}")
    yield Check(GOOD, f"{platform.platform(terse=True)}, {os.cpu_count()} processors")


def check_limits() -> Iterator[Check]:
    """Check the limits of this user and of the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES:
        advice = f"ulimit -n {min(hard, 65536) if hard > 0 else 65536}, or LimitNOFILE= in the unit of systemd"
        yield Check(WARNING, f"{soft} open files at most: this limits the number of connections", advice)
    else:
        yield Check(GOOD, f"{soft} open files at most")


def check_groups(named: Sequence[str]) -> Check:
    """Check what would limit the memory and the processes of servers."""
    try:
        groups = find_groups(named)
    except OptionError as error:
        return Check(BAD, str(error), "give another --cgroup")
    there = {name for group in groups for name in group.controllers}
    places = ", ".join(f"{group.folder} (version {group.version})" for group in groups)
    missing = " and ".join(text for name, text in _HELD.items() if name not in there)
    if not missing:
        return Check(GOOD, f"--max_memory and --max_processes are enforced by control groups in {places}")
    text = (
        f"{missing} of servers are limited by rlimits, not by control groups: child processes of a job can exceed them"
    )
    advice = (
        "run the node with the unit of `discoronode --print_systemd`, create a group for it and pass that as --cgroup, "
        "or use a container with limits"
    )
    return Check(WARNING, text, advice)


def check_folder(dest_path: str | None) -> Iterator[Check]:
    """Check the folder for working folders."""
    folder = Path(dest_path or tempfile.gettempdir())
    if not folder.is_dir():
        yield Check(BAD, f"{folder} does not exist", "make it, for the user that the program runs as")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check(BAD, f"{folder} cannot be written", "choose another with --dest_path, or change its owner or mode")
        return
    free = shutil.disk_usage(folder).free
    text = f"{free // 1024**2:,} MiB free in {folder}"
    advice = "free some, or choose another folder with --dest_path"
    yield Check(GOOD, text) if free > _LITTLE_SPACE else Check(WARNING, text, advice)


def check_secret(options: Mapping[str, Any]) -> Iterator[Check]:
    """Check whether the secret is easy to guess."""
    weakness = secret_file.weakness_in_use(options["secret"], options["secret_file"])
    if weakness:
        yield Check(WARNING, weakness, "`discoro secret rotate stage` makes a random one; it is changed in three steps")


def check_ports(options: Mapping[str, Any]) -> Iterator[Check]:
    """Check whether each port that servers would use is free."""
    for port in _ports(options["tcp_ports"]):
        with ExitStack() as stack:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("", port))
            except OSError as error:
                advice = "end the program that listens there (`ss -ltnp` shows it), or give other --tcp_ports"
                yield Check(WARNING, f"TCP port {port} cannot be used: {error.strerror}", advice)
            else:
                yield Check(GOOD, f"TCP port {port} is free")


def _ports(ports: Ports) -> tuple[int, ...]:
    return tuple(port for port in parse_ports(ports) if port)


async def check_network(options: Mapping[str, Any]) -> list[Check]:
    """Open an endpoint, discover peers, and connect to each."""
    given = {name: options[name] for name in _ENDPOINT if options.get(name) is not None}
    found: list[Check] = []
    try:
        async with open_with(EndpointOptions(**{"ip_addr": "", **given})) as endpoint:
            found.append(Check(GOOD, f"listens at {endpoint.location}"))
            found.append(Check(GOOD, f"the secret has the fingerprint {fingerprint_of(endpoint)}"))
            found += check_secret(options)
            hosts: list[str] = []
            locations: list[Location] = []
            for peer in options["peer"]:
                try:
                    peers = await resolve_peers("--peer", [peer])
                except OptionError as error:
                    found.append(Check(BAD, str(error), "correct the name, or give the address"))
                else:
                    hosts += peers.hosts
                    locations += peers.locations
            if not options["no_discover"]:
                found += await _check_discovery(endpoint, tuple(hosts), options["udp_port"])
            else:
                found += [Check(BAD, f"--peer {host}: discovery is off", _NAMED) for host in hosts]
            found += [await _check_location(endpoint, location) for location in locations]
            if endpoint.discovery is not None and endpoint.discovery.foreign:
                found.append(_foreign(endpoint.discovery.foreign))
    except OptionError as error:
        found.append(Check(BAD, str(error), f"give another --{error.option}"))
    return found


async def _check_discovery(endpoint: Endpoint, hosts: tuple[str, ...], udp_port: int = UDP_PORT) -> list[Check]:
    assert endpoint.discovery is not None  # noqa: S101 - it was opened with options
    everyone = Role.NODE | Role.SCHEDULER | Role.PRIVATE
    answered = await endpoint.discovery.find(everyone, _LOOK_SECONDS, hosts=hosts)
    missing = [
        Check(BAD, f"--peer {host}: no process has answered there", _advice_for_host(host, udp_port))
        for host in hosts
        if not await _has_answered(host, answered)
    ]
    if missing:
        return [*missing, *[await _check_peer(endpoint, one) for one in answered]]
    if not answered:
        advice = (
            f"start them, with the same secret and --udp_port; let UDP port {udp_port} and the TCP ports through "
            "firewalls; name processes in other networks with --peer"
        )
        return [Check(WARNING, "no node and no scheduler has answered", advice)]
    return [await _check_peer(endpoint, one) for one in answered]


async def _has_answered(host: str, answered: Sequence[Found]) -> bool:
    """Return whether a peer that answered is at a host."""
    places = {host, *(str(info[4][0]) for info in await trio.socket.getaddrinfo(host, None))}
    if any(one.location.addr in places for one in answered):
        return True
    return bool(answered) and any(place.startswith("127.") or place == "::1" for place in places)


def _advice_for_host(host: str, udp_port: int) -> str:
    return (
        f"start discoronode or discoro at {host} with the same secret (`discoro secret show` there) and the same "
        f"--udp_port; let UDP port {udp_port} through its firewall, or name the TCP port: --peer {host}:PORT"
    )


def _foreign(hosts: Sequence[str]) -> Check:
    text = f"processes at {', '.join(hosts)} use another secret"
    advice = "compare the fingerprints of `discoro secret show` on both machines; copy the secret with --reveal"
    return Check(WARNING, text, advice)


def _advice(error: DiscoroError) -> str:
    """Return advice for a process that cannot be reached, by the cause."""
    if isinstance(error, AuthenticationError):
        return "it uses another secret: compare the fingerprints of `discoro secret show` on both machines"
    if isinstance(error, VersionMismatch):
        return "run the same version of discoro_trio and the same minor version of Python on both machines"
    if "refused" in str(error):
        return "nothing listens at that port: start the program there, or give the port at which it listens"
    return "let its TCP ports through, or start it with the --ext_ip_addr by which this machine reaches it"


async def _check_location(endpoint: Endpoint, location: Location) -> Check:
    try:
        link = await endpoint.link_at(location)
    except DiscoroError as error:
        return Check(BAD, f"--peer {location}: {error}", _advice(error))
    return Check(GOOD, f"--peer {location}: {link.peer.name} can be reached")


async def _check_peer(endpoint: Endpoint, one: Found) -> Check:
    what = " and ".join(str(role.name).lower() for role in one.role) or "process"
    text = f"{what} {one.name} at {one.location}"
    try:
        await endpoint.link_at(one.location)
    except DiscoroError as error:
        return Check(BAD, f"{text} cannot be reached: {error}", _advice(error))
    return Check(GOOD, f"{text} can be reached")
