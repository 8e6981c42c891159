"""The systems that are measured beside each other, and which of them can be measured here."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from benchmarks._figures import Figure

ROOT = Path(__file__).parents[1]
"""The folder from which `benchmarks` is imported."""


@frozen
class System:
    """A system, with a package that has one module a figure."""

    name: str
    package: str
    requires: str | None = field(default=None, kw_only=True)
    """What must be importable; None: nothing that could be missing."""
    quick: bool = field(default=False, kw_only=True)
    """Whether `--quick` measures it too."""

    def has(self, figure: Figure) -> bool:
        """Say whether it has a module for the figure."""
        return ROOT.joinpath(*self.package.split("."), f"{figure.module}.py").exists()

    def installed(self) -> bool:
        """Say whether what it requires is there; it is not imported."""
        return self.requires is None or importlib.util.find_spec(self.requires) is not None


DISCORO = System("discoro", "benchmarks.discoro", quick=True)
FLOOR = System("floor", "benchmarks.floor", quick=True)
PLAIN = System("discoro without TLS", "benchmarks.plain", quick=True)
PEERS = (
    System("ProcessPoolExecutor", "benchmarks.peers.process_pool", quick=True),
    System("joblib", "benchmarks.peers.joblib", requires="joblib"),
    System("dask.distributed", "benchmarks.peers.dask", requires="distributed"),
    System("Ray", "benchmarks.peers.ray", requires="ray"),
    System("xoscar", "benchmarks.peers.xoscar", requires="xoscar"),
    System("pycos", "benchmarks.peers.pycos", requires="pycos"),
)
SYSTEMS = (DISCORO, FLOOR, PLAIN, *PEERS)
