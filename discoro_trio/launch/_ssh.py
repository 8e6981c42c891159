"""Nodes on other machines, started through the system's `ssh`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .._arguments import path, several, text
from ._environment import make_environment
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
            default the hosts' `python3`. With `requirements`, a version or path for `uv venv`; by default the minor
            version of this program.
        requirements: A file with locked requirements, discoro_trio among them, as `uv export` or `uv pip freeze`
            writes it. Each host makes an environment from it with its `uv`, and keeps it in ~/.cache/discoro_trio for
            the next time.
        uv_options: Further arguments of `uv pip install` on the hosts, such as ["--find-links", "/shared/wheels"].
        cpus: Servers of each node, as for `open_node`: 0 is one per processor.
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
        self._ssh_options = [text("ssh_options", one) for one in several("ssh_options", ssh_options, "arguments")]

    def _processes(self) -> Iterable[NodeProcess]:
        # The host's shell reads this line. With `exec` no shell stays between sshd and the node.
        remote = f"exec {shlex.join((self._python, *NODE_MODULE))}"
        if self._environment:
            remote = f'{self._environment}\nexec "$env/bin/python" {shlex.join(NODE_MODULE)}'
        # No terminal: the end of the connection must reach the node as the end of its standard input.
        ssh = ("ssh", "-T", "-o", "BatchMode=yes", *self._ssh_options)
        return [NodeProcess(name=host, command=(*ssh, "--", host, remote)) for host in self._hosts]
