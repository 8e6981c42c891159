"""Launchers: they start nodes from the program, while a scheduler's block lasts."""

from .._cluster import LaunchedNode, Launcher, SchedulerAccess
from ._local import Local
from ._ssh import Ssh

__all__ = ["LaunchedNode", "Launcher", "Local", "SchedulerAccess", "Ssh"]
