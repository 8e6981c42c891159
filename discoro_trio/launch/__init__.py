"""Launchers: they start nodes from the program, while a scheduler's block lasts."""

from .._cluster import LaunchedNode, Launcher, SchedulerAccess
from ._adaptive import Adaptive
from ._dask import Dask
from ._kubernetes import Kubernetes
from ._local import Local
from ._lsf import Lsf
from ._pbs import Pbs
from ._ray import Ray
from ._sge import Sge
from ._slurm import Slurm
from ._ssh import Ssh

__all__ = [
    "Adaptive",
    "Dask",
    "Kubernetes",
    "LaunchedNode",
    "Launcher",
    "Local",
    "Lsf",
    "Pbs",
    "Ray",
    "SchedulerAccess",
    "Sge",
    "Slurm",
    "Ssh",
]
