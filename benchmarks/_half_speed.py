"""Processes at half speed, by a control group; needs root on Linux."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ROOT = Path("/sys/fs/cgroup")
PERIOD, QUOTA = 10_000, 5_000
"""Microseconds: how much of each period they may run on one processor; short, so that no job is held for long."""


def why_not() -> str | None:
    """Return why this cannot be had here; None if it can."""
    if not os.access(_ROOT, os.W_OK):
        return f"control groups in {_ROOT} cannot be made; it needs root"
    if not (_ROOT / "cpu").is_dir() and "cpu" not in _controllers():
        return "there is no control group for processors"
    return None


def _controllers() -> list[str]:
    file = _ROOT / "cgroup.controllers"
    return file.read_text(encoding="ascii").split() if file.exists() else []


@contextmanager
def half_speed(pids: Iterable[int]) -> Iterator[None]:
    """Let some processes together use half of one processor while the block runs.

    Args:
        pids: The processes; what they start later belongs to them.
    """
    if (_ROOT / "cpu").is_dir():  # version 1
        above = _ROOT / "cpu"
        limits = {"cpu.cfs_period_us": f"{PERIOD}", "cpu.cfs_quota_us": f"{QUOTA}"}
    else:
        above = _ROOT
        (above / "cgroup.subtree_control").write_text("+cpu", encoding="ascii")
        limits = {"cpu.max": f"{QUOTA} {PERIOD}"}
    group = above / f"discoro-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        for name, value in limits.items():
            (group / name).write_text(value, encoding="ascii")
        _move(pids, group)
        yield
    finally:
        _move(map(int, (group / "cgroup.procs").read_text(encoding="ascii").split()), above)
        group.rmdir()


def _move(pids: Iterable[int], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
