"""The systems that are measured beside each other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen

if TYPE_CHECKING:
    from benchmarks._figures import Figure

ROOT = Path(__file__).parents[1]
"""The folder from which `benchmarks` is imported."""


@frozen
class System:
    """A system that is measured in this environment: a package with one module a figure."""

    name: str
    package: str
    quick: bool = field(default=True, kw_only=True)
    """Whether `--quick` measures it too."""

    def has(self, figure: Figure) -> bool:
        """Say whether it has a module for the figure."""
        return ROOT.joinpath(*self.package.split("."), f"{figure.module}.py").exists()


@frozen
class Peer(System):
    """Another system: one module with a function a figure, which runs in an environment of its own."""

    requires: tuple[str, ...] = field(default=(), kw_only=True)
    """What to install; the first is the system, pinned. Nothing: this environment will do."""
    program: str | None = field(default=None, kw_only=True)
    """A program that must be on PATH."""

    @property
    def newest(self) -> tuple[str, ...]:
        """What to install with `--newest`: the same without versions."""
        return tuple(requirement.partition("==")[0] for requirement in self.requires)

    def has(self, figure: Figure) -> bool:
        """Say whether it has a function for the figure."""
        return self.has_function(figure.module)

    def has_function(self, name: str) -> bool:
        """Say whether its module has a function; the module is not imported."""
        path = ROOT.joinpath(*self.package.split(".")).with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.exists() else ast.Module([], [])
        return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


DISCORO = System("discoro", "benchmarks.discoro")
FLOOR = System("floor", "benchmarks.floor")
PLAIN = System("discoro without TLS", "benchmarks.plain")

_NUMPY = "numpy==2.4.6"
PEERS = (
    Peer("ProcessPoolExecutor", "benchmarks.peer_systems.process_pool"),
    Peer("joblib", "benchmarks.peer_systems.joblib", quick=False, requires=("joblib==1.6.0", _NUMPY)),
    Peer("loky", "benchmarks.peer_systems.loky", quick=False, requires=("loky==3.7.0", _NUMPY)),
    Peer("mpire", "benchmarks.peer_systems.mpire", quick=False, requires=("mpire==2.10.2", _NUMPY)),
    Peer("dask.distributed", "benchmarks.peer_systems.dask", quick=False, requires=("distributed==2026.8.0", _NUMPY)),
    Peer("Ray", "benchmarks.peer_systems.ray", quick=False, requires=("ray==2.60.0", "psutil==7.2.2", _NUMPY)),
    Peer("xoscar", "benchmarks.peer_systems.xoscar", quick=False, requires=("xoscar==0.12.2",)),
    Peer("pycos", "benchmarks.peer_systems.pycos", quick=False, requires=("pycos==4.12.2",)),
    Peer("Monarch", "benchmarks.peer_systems.monarch", quick=False, requires=("torchmonarch==0.7.0",)),
    Peer("Scaler", "benchmarks.peer_systems.scaler", quick=False, requires=("opengris-scaler==2.9.0",)),
    Peer("Erlang", "benchmarks.peer_systems.erlang", quick=False, program="erl"),
)
"""The pinned versions stand here and nowhere else."""
SYSTEMS = (DISCORO, FLOOR, PLAIN, *PEERS)
