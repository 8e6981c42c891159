"""Nodes on this machine, for tests."""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

from .._arguments import integer, number
from ._processes import NODE_MODULE, NodeProcess, ProcessLauncher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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
        super().__init__(integer("nodes", nodes, least=1), cpus=cpus, timeout=timeout)
        self._delays = self._by_name("delays", delays)
        self._kills = self._by_name("kills", kills)

    def _by_name(self, option: str, seconds: Mapping[str, float] | None) -> dict[str, float]:
        given = {name: number(option, value) for name, value in (seconds or {}).items()}
        names = [f"local{place}" for place in range(1, self.size + 1)]
        unknown = sorted(given.keys() - set(names))
        if unknown:
            message = f"{option}: no node is named {unknown[0]!r}; the names are {', '.join(names)}"
            raise ValueError(message)
        return given

    def _processes(self) -> Iterator[NodeProcess]:
        command = (sys.executable, *NODE_MODULE)
        for name in (f"local{place}" for place in count(1)):
            yield NodeProcess(
                name=name, command=command, delay=self._delays.get(name, 0.0), killed_after=self._kills.get(name)
            )
