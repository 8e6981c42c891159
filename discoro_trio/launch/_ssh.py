"""Nodes on other machines, started through the system's `ssh`."""

from __future__ import annotations

import os
import random
import shlex
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from .._arguments import flag, path, several, text
from .._errors import DiscoroError
from ._environment import make_environment
from ._processes import NODE_MODULE, NodeProcess, ProcessLauncher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._cluster import SchedulerAccess

_LOOPBACK = "127.0.0.1"
_FORWARDED = range(20_000, 30_000)
"""Ports that tunnels use: below those that systems assign to outgoing connections."""
_SPARE = 2
"""Ports of a node beyond those that it needs: another program of its host may use one."""


class Ssh(ProcessLauncher):
    """Runs one node on each host through the system's `ssh`, with its configuration, agent and jump hosts.

    Each node lasts as long as its ssh connection: it also ends if this program is killed. `ssh` must not ask for
    anything (`BatchMode=yes`), so keys and host keys must be set up. The hosts must be able to connect to this
    program's scheduler, or `tunnel` is set. What a node writes is logged with its host's name.

    Args:
        hosts: Hosts, as `ssh` takes them: "worker1", "user@worker2", or a name of ~/.ssh/config.
        python: The interpreter on the hosts that has discoro_trio installed, such as "/opt/venv/bin/python"; by
            default the hosts' `python3`. With `requirements`, a version or path for `uv venv`; by default the minor
            version of this program.
        requirements: A file with locked requirements, discoro_trio among them, as `uv export` or `uv pip freeze`
            writes it. Each host makes an environment from it with its `uv`, and keeps it in ~/.cache/discoro_trio for
            the next time.
        uv_options: Further arguments of `uv pip install` on the hosts, such as ["--find-links", "/shared/wheels"].
        cpus: Servers of each node, as for `open_node`: 0 is one per processor.
        tunnel: Whether all connections go through ssh, for networks where nothing else gets through, also those between
            two hosts. It needs `cpus`, `open_scheduler(ip_addr="127.0.0.1")`, and hosts whose sshd allows forwarding.
        ssh_options: Further arguments of `ssh`, such as ["-p", "2222"].
        timeout: Seconds that a node may take to join the scheduler; by default 60, or 600 with `requirements`.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        python: str | os.PathLike[str] | None = None,
        requirements: str | os.PathLike[str] | None = None,
        uv_options: Sequence[str] = (),
        cpus: int = 0,
        tunnel: bool = False,
        ssh_options: Sequence[str] = (),
        timeout: float | None = None,
    ) -> None:
        self._hosts = [text("hosts", host) for host in several("hosts", hosts, "host names")]
        if not self._hosts or len(set(self._hosts)) < len(self._hosts):
            message = f"hosts must be one host or more, each once, not {self._hosts!r}"
            raise ValueError(message)
        for host in self._hosts:
            if not host or host.startswith("-"):  # ssh would take it as an option
                message = f"hosts: {host!r} is no host name"
                raise ValueError(message)
        longest = (60.0 if requirements is None else 600.0) if timeout is None else timeout
        super().__init__(len(self._hosts), cpus=cpus, timeout=longest)
        options = [text("uv_options", one) for one in several("uv_options", uv_options, "arguments")]
        if requirements is None and options:
            message = "uv_options needs requirements"
            raise ValueError(message)
        self._environment = ""
        if requirements is not None:
            locked = Path(path("requirements", requirements)).read_text(encoding="utf-8")
            version = text("python", os.fspath(python)) if python is not None else "{}.{}".format(*sys.version_info)
            self._environment = make_environment(locked, version, options)
        self._python = text("python", os.fspath(python)) if python is not None else "python3"
        self._tunnel = flag("tunnel", tunnel)
        if self._tunnel and cpus < 1:
            message = f"tunnel needs cpus=1 or more, not {cpus}: it forwards one port for each server"
            raise ValueError(message)
        self._ports: dict[str, tuple[int, ...]] = {}
        self._ssh_options = [text("ssh_options", one) for one in several("ssh_options", ssh_options, "arguments")]

    def _processes(self) -> Iterable[NodeProcess]:
        # The host's shell reads this line. With `exec` no shell stays between sshd and the node.
        remote = f"exec {shlex.join((self._python, *NODE_MODULE))}"
        if self._environment:
            remote = f'{self._environment}\nexec "$env/bin/python" {shlex.join(NODE_MODULE)}'
        # No terminal: the end of the connection must reach the node as the end of its standard input.
        ssh = ("ssh", "-T", "-o", "BatchMode=yes", *self._ssh_options)
        return [NodeProcess(name=host, command=(*ssh, "--", host, remote)) for host in self._hosts]

    def _reaching(self, process: NodeProcess, access: SchedulerAccess) -> NodeProcess:
        """Forward the ports of all processes, so that 127.0.0.1 and a port mean the same process at every host."""
        if not self._tunnel:
            return process
        addr, port = access.location.addr, access.location.port
        if addr != _LOOPBACK:
            message = f'tunnel=True needs open_scheduler(ip_addr="{_LOOPBACK}"); this scheduler listens at {addr}'
            raise DiscoroError(message)
        if not self._ports:
            self._ports = _free_ports(self._hosts, self._cpus + 1 + _SPARE)
        own = self._ports[process.name]
        others = [one for host, ports in self._ports.items() if host != process.name for one in ports]
        forwards = [*(("-L", one) for one in own), *(("-R", one) for one in (port, *others))]
        words = [word for way, one in forwards for word in (way, f"{_LOOPBACK}:{one}:{_LOOPBACK}:{one}")]
        # A connection that is shared by ControlMaster would keep the ports after the node's end.
        alone = ("-o", "ExitOnForwardFailure=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none")
        ssh, *rest = process.command
        return attrs.evolve(process, command=(ssh, *alone, *words, *rest), tcp_ports=",".join(map(str, own)))


def _free_ports(hosts: Sequence[str], count: int) -> dict[str, tuple[int, ...]]:
    """Choose ports for each host that are free at this machine.

    Raises:
        DiscoroError: There are too few.
    """
    found: list[int] = []
    for port in random.sample(_FORWARDED, len(_FORWARDED)):
        if len(found) == len(hosts) * count:
            return {host: tuple(found[place * count : (place + 1) * count]) for place, host in enumerate(hosts)}
        with suppress(OSError), socket.socket() as sock:
            sock.bind((_LOOPBACK, port))
            found.append(port)
    message = f"tunnel: {len(hosts) * count} free ports are needed from {_FORWARDED.start} to {_FORWARDED.stop - 1}"
    raise DiscoroError(message)
