"""Nodes on other machines, started through the system's `ssh`."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from .._arguments import several, text
from ._processes import NODE_MODULE, NodeProcess, ProcessLauncher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Ssh(ProcessLauncher):
    """Runs one node on each host through the system's `ssh`, with its configuration, agent and jump hosts.

    Each node lasts as long as its ssh connection: it also ends if this program is killed. `ssh` must not ask for
    anything (`BatchMode=yes`), so keys and host keys must be set up. The hosts must be able to connect to this
    program's scheduler. What a node writes is logged with its host's name.

    Args:
        hosts: Hosts, as `ssh` takes them: "worker1", "user@worker2", or a name of ~/.ssh/config.
        python: The interpreter on the hosts that has discoro_trio installed, such as "/opt/venv/bin/python"; by
            default the hosts' `python3`.
        cpus: Servers of each node, as for `open_node`: 0 is one per processor.
        ssh_options: Further arguments of `ssh`, such as ["-p", "2222"].
        timeout: Seconds that a node may take to join the scheduler.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        python: str | os.PathLike[str] | None = None,
        cpus: int = 0,
        ssh_options: Sequence[str] = (),
        timeout: float = 60.0,
    ) -> None:
        self._hosts = [text("hosts", host) for host in several("hosts", hosts, "host names")]
        if not self._hosts or len(set(self._hosts)) < len(self._hosts):
            message = f"hosts must be one host or more, each once, not {self._hosts!r}"
            raise ValueError(message)
        for host in self._hosts:
            if not host or host.startswith("-"):  # ssh would take it as an option
                message = f"hosts: {host!r} is no host name"
                raise ValueError(message)
        super().__init__(len(self._hosts), cpus=cpus, timeout=timeout)
        self._python = text("python", os.fspath(python)) if python is not None else "python3"
        self._ssh_options = [text("ssh_options", one) for one in several("ssh_options", ssh_options, "arguments")]

    def _processes(self) -> Iterable[NodeProcess]:
        # The host's shell reads this line. With `exec` no shell stays between sshd and the node.
        remote = f"exec {shlex.join((self._python, *NODE_MODULE))}"
        # No terminal: the end of the connection must reach the node as the end of its standard input.
        ssh = ("ssh", "-T", "-o", "BatchMode=yes", *self._ssh_options)
        return [NodeProcess(name=host, command=(*ssh, "--", host, remote)) for host in self._hosts]
