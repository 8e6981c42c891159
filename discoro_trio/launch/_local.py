"""Nodes on this machine, for tests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._arguments import integer, number
from ._processes import NODE_MODULE, NodeProcess, ProcessLauncher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Local(ProcessLauncher):
    """Runs nodes as processes of this machine, for tests: with delays and failures on purpose.

    Args:
        nodes: Number of nodes; they are named local1, local2 and so on.
        cpus: Servers of each node, as for `open_node`.
        delays: Seconds to wait before the start of single nodes, by name, such as {"local2": 1.5}.
        kills: Seconds after its start at which a node is killed, by name; {"local1": 0} kills it before it joins.
        timeout: Seconds that a node may take to join the scheduler.

    Raises:
        TypeError, ValueError: An argument cannot work.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        cpus: int = 1,
        delays: Mapping[str, float] | None = None,
        kills: Mapping[str, float] | None = None,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(cpus=cpus, timeout=timeout)
        self._names = [f"local{index + 1}" for index in range(integer("nodes", nodes, least=1))]
        self._delays = self._by_name("delays", delays)
        self._kills = self._by_name("kills", kills)

    def _by_name(self, option: str, seconds: Mapping[str, float] | None) -> dict[str, float]:
        given = {name: number(option, value) for name, value in (seconds or {}).items()}
        unknown = sorted(given.keys() - set(self._names))
        if unknown:
            message = f"{option}: no node is named {unknown[0]!r}; the names are {', '.join(self._names)}"
            raise ValueError(message)
        return given

    def _processes(self) -> Sequence[NodeProcess]:
        command = (sys.executable, *NODE_MODULE)
        return [
            NodeProcess(
                name=name, command=command, delay=self._delays.get(name, 0.0), killed_after=self._kills.get(name)
            )
            for name in self._names
        ]
