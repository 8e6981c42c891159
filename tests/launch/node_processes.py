"""The nodes that a launcher has started, as processes of this machine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import ClassVar

import psutil


class NodeProcesses(ABC):
    """Finds the nodes among the processes of a server or of a cluster."""

    seconds: ClassVar[float] = 60.0
    """The time for nodes to start or end."""

    @abstractmethod
    def processes(self) -> list[psutil.Process]:
        """Return all processes below the server or the cluster."""

    def nodes(self) -> list[psutil.Process]:
        """Return the nodes among them."""
        return [one for one in self.processes() if "discoro_trio.launch._node" in _command(one)]

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes run."""
        deadline = time.monotonic() + self.seconds
        while len(self.nodes()) != count:
            assert time.monotonic() < deadline, f"these run: {self.nodes()}"
            time.sleep(0.05)


def _command(process: psutil.Process) -> list[str]:
    try:
        command: list[str] = process.cmdline()
    except psutil.NoSuchProcess:  # also of a zombie
        return []
    return command
