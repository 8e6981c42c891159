"""How many processors there are for servers, by affinity and control groups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from discoro_trio._cluster._processors import processors

if TYPE_CHECKING:
    from pathlib import Path

V1 = "30 25 0:26 {top} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
V2 = "30 25 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
OTHER = "24 1 8:1 / / rw - ext4 /dev/sda1 rw"


def groups(folder: Path, mount: str, members: str, quotas: dict[str, str]) -> int:
    """Count the processors of a process whose control groups stand in files."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "mountinfo").write_text(f"{OTHER}\n{mount}\n")
    (proc / "cgroup").write_text(members)
    for name, content in quotas.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return processors(proc, folder)


CASES: dict[str, tuple[str, str, dict[str, str], int]] = {
    "version 2": (V2.format(top="/"), "0::/app\n", {"app/cpu.max": "200000 100000\n"}, 2),
    "version 2 without a bound": (V2.format(top="/"), "0::/app\n", {"app/cpu.max": "max 100000\n"}, 8),
    "a group around it": (
        V2.format(top="/"),
        "0::/user/app\n",
        {"user/cpu.max": "300000 100000\n", "user/app/cpu.max": "max 100000\n"},
        3,
    ),
    "a part of a processor counts as one": (V2.format(top="/"), "0::/\n", {"cpu.max": "20000 100000\n"}, 1),
    "more than there are": (V2.format(top="/"), "0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
    "version 1": (
        V1.format(top="/"),
        "3:cpu,cpuacct:/app\n0::/\n",
        {"cpu,cpuacct/app/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/app/cpu.cfs_period_us": "100000\n"},
        2,
    ),
    "version 1 without a bound": (
        V1.format(top="/"),
        "3:cpu,cpuacct:/app\n",
        {"cpu,cpuacct/app/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/app/cpu.cfs_period_us": "100000\n"},
        8,
    ),
    "a container that sees its own group as the top": (
        V1.format(top="/docker/0123"),
        "3:cpu,cpuacct:/docker/0123\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "a group above what is mounted": (V2.format(top="/a/b"), "0::/..\n", {"cpu.max": "100000 100000\n"}, 1),
    "files that cannot be read": (V2.format(top="/"), "0::/\n", {"cpu.max": "nothing"}, 8),
}


@pytest.mark.spec("S18", "S19")
@pytest.mark.parametrize("name", CASES)
def test_quotas_of_control_groups_count(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount, members, quotas, expected = CASES[name]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert groups(tmp_path, mount, members, quotas) == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert processors(tmp_path / "nothing") == 2
