"""The number of processors that this process may use, by its affinity and the quotas of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path

_PROC = Path("/proc/self")


def processors(proc: Path = _PROC, root: Path = Path("/")) -> int:
    """Count the processors that this process may use, at least one.

    A quota of one and a half processors counts as two.

    Args:
        proc: Where the kernel describes this process.
        root: A prefix for the paths of mounted file systems, for tests.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups(proc, root) if (quota := _quota(folder)) is not None]
    return max(1, min(there, *map(math.ceil, quotas)) if quotas else there)


def _groups(proc: Path, root: Path) -> list[Path]:
    """Return the folders of this process's control groups, and of their ancestors."""
    try:
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        members = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
    except OSError:
        return []
    found: list[Path] = []
    for fields in mounts:
        # "36 35 98:0 /root /mount-point options - type source options", as proc(5) has it; a blank in a path is \040.
        dash = fields.index("-")
        kind, controllers = fields[dash + 1], fields[dash + 3].split(",")
        top, mount = (field.replace("\\040", " ") for field in fields[3:5])
        for _, names, path in members:
            is_version_2 = kind == "cgroup2" and not names
            is_version_1 = kind == "cgroup" and "cpu" in controllers and "cpu" in names.split(",")
            if is_version_2 or is_version_1:
                found += _folders(root / mount.lstrip("/"), top, path)
    return found


def _folders(mount: Path, top: str, path: str) -> list[Path]:
    """Return the folder of a group and its ancestors, up to the mount point."""
    below = os.path.relpath(path, top)
    parts = [] if below.startswith("..") or below == "." else below.split("/")  # it may be above, in a container
    return [mount.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _quota(folder: Path) -> float | None:
    """Return the number of processors that a group may use; None if it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in {"max", "-1"} else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
