"""An OpenSSH server with keys and a port of its own, and the client configuration that reaches it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests._ports import free_tcp_port

from .node_processes import NodeProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._network import Host

SECONDS = 30.0
_SERVER = """
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
"""
_CLIENT = """
Host worker1 worker2 far
  HostName {address}
  Port {port}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
Host far
  ProxyJump worker1
Host stranger
  HostName {address}
  Port {port}
  IdentityFile {folder}/no_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
"""


class Sshd(NodeProcesses):
    """A running server.

    Attributes:
        config: The file for `ssh -F`: the hosts worker1, worker2, far (behind the jump host worker1), and stranger,
            which refuses the client's key.
        port: The TCP port of the server.
    """

    seconds = SECONDS

    def __init__(self, config: Path, port: int, process: psutil.Process) -> None:
        self.config = config
        self.port = port
        self._process = process

    @property
    def options(self) -> list[str]:
        """The options of ssh."""
        return ["-F", str(self.config)]

    def processes(self) -> list[psutil.Process]:
        """Return what runs in connections: the server's own helpers, nodes and their servers."""
        found: list[psutil.Process] = self._process.children(recursive=True)
        return found


@contextmanager
def running_sshd(folder: Path, host: Host | None = None) -> Iterator[Sshd]:
    """Run a server until the block is left.

    Args:
        folder: For its files.
        host: Where it runs; on loopback of this machine by default.
    """
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.fail("these tests need openssh-server and openssh-client")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_tcp_port()
    address = "127.0.0.1" if host is None else host.address
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[{address}]:{port} {host_key}")
    (folder / "sshd_config").write_text(_SERVER.format(address=address, port=port, folder=folder))
    config = folder / "ssh_config"
    config.write_text(_CLIENT.format(address=address, port=port, folder=folder))
    command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    with subprocess.Popen(
        command if host is None else host.command(*command), stderr=subprocess.PIPE, env=_without_python()
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert b"listening" in line, line
            yield Sshd(config, port, psutil.Process(process.pid))
        finally:
            process.terminate()


def _without_python() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def wait_until_ended(processes: list[psutil.Process]) -> None:
    """Wait for processes that are no children of this one; fail the test when some are left."""
    deadline = time.monotonic() + SECONDS
    while left := [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.05)
