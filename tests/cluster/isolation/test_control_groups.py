"""Which control groups a node uses, and what is written to and read from them; on texts and folders made here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from discoro_trio._cluster.isolation._control_groups import (
    Group,
    excess,
    groups_here,
    hierarchies,
    settings,
    usable_groups,
)
from discoro_trio._cluster.isolation._limits import Limits
from discoro_trio._link import OptionError

BOTH = frozenset({"memory", "pids"})
LIMITS = Limits(max_memory=1000, max_processes=50)

MIXED = """\
22 1 8:1 / / rw,relatime - ext4 /dev/root rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
39 31 0:36 /outer /sys/fs/cgroup/process\\040numbers rw,relatime shared:9 - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def tree(tmp_path: Path, *, version: int = 2, bound: str = "") -> str:
    """Give the table of mounts that has one hierarchy, whose root is a folder here."""
    kind, options = ("cgroup2", "rw,nsdelegate") if version == 2 else ("cgroup", f"rw,{bound}")
    return f"41 31 0:38 / {tmp_path} rw,relatime - {kind} none {options}\n"


def group(tmp_path: Path, name: str, controllers: str = "cpu memory pids") -> Path:
    """Make a group of version 2."""
    folder = tmp_path / name
    folder.mkdir()
    for file, text in (("cgroup.controllers", controllers), ("cgroup.procs", ""), ("cgroup.subtree_control", "")):
        (folder / file).write_text(f"{text}\n", encoding="ascii")
    return folder


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Give the marks that groups bear here, as the file systems of tests may have no room for them."""
    marks: dict[str, bytes] = {}

    def getxattr(folder: Path, name: str) -> bytes:
        if name not in marks:
            raise OSError(61, "no data available", str(folder))
        return marks[name]

    monkeypatch.setattr(os, "getxattr", getxattr)
    return marks


def test_the_trees_of_both_versions_are_found_with_what_is_bound_to_them() -> None:
    found = [(str(one.point), str(one.root), one.version, set(one.controllers)) for one in hierarchies(MIXED)]
    assert found == [
        ("/sys/fs/cgroup/memory", "/", 1, {"memory"}),
        ("/sys/fs/cgroup/cpu,cpuacct", "/", 1, set()),
        ("/sys/fs/cgroup/process numbers", "/outer", 1, {"pids"}),
        ("/sys/fs/cgroup/unified", "/", 2, set()),
    ]


def test_the_groups_of_this_process_are_found_where_they_are_to_be_seen() -> None:
    memberships = "9:name=systemd:/\n8:pids:/outer/in:side\n6:memory:/one\n3:cpu,cpuacct:/\n0::/two\n"
    assert groups_here(memberships, MIXED) == [
        Group(Path("/sys/fs/cgroup/process numbers/in:side"), 1, frozenset({"pids"})),
        Group(Path("/sys/fs/cgroup/memory/one"), 1, frozenset({"memory"})),
        Group(Path("/sys/fs/cgroup/unified/two"), 2, frozenset()),
    ]
    assert groups_here("8:pids:/elsewhere\n", MIXED) == []
    assert groups_here("", "") == []


def test_a_group_of_version_2_says_itself_which_controllers_it_has(tmp_path: Path) -> None:
    folder = group(tmp_path, "unit", "cpuset memory")
    assert groups_here("0::/unit\n", tree(tmp_path)) == [Group(folder, 2, frozenset({"memory"}))]


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize("mark", ["user.delegate", "trusted.delegate"])
def test_only_a_group_that_was_delegated_is_used_without_being_named(
    tmp_path: Path, marked: dict[str, bytes], mark: str
) -> None:
    folder = group(tmp_path, "unit")
    assert usable_groups((), "0::/unit\n", tree(tmp_path)) == []
    marked[mark] = b"1"
    assert usable_groups((), "0::/unit\n", tree(tmp_path)) == [Group(folder, 2, BOTH)]
    assert usable_groups((), "4:memory:/unit\n", tree(tmp_path, version=1, bound="memory")) == []


@pytest.mark.parametrize("lacking", ["cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"])
def test_a_delegated_group_that_does_not_serve_is_left_alone(
    tmp_path: Path, marked: dict[str, bytes], lacking: str
) -> None:
    marked["user.delegate"] = b"1"
    (group(tmp_path, "unit") / lacking).unlink()
    assert usable_groups((), "0::/unit\n", tree(tmp_path)) == []


def test_groups_that_are_named_are_used_wherever_this_process_is(tmp_path: Path) -> None:
    for name in ("memory", "pids"):
        (tmp_path / name / "node").mkdir(parents=True)
        (tmp_path / name / "node" / "cgroup.procs").touch()
    mounts = (
        tree(tmp_path)
        + tree(tmp_path / "memory", version=1, bound="memory")
        + tree(tmp_path / "pids", version=1, bound="pids")
    )
    named: list[str | Path] = [tmp_path / "memory" / "node", str(tmp_path / "pids" / "node")]
    assert usable_groups(named, "", mounts) == [
        Group(tmp_path / "memory" / "node", 1, frozenset({"memory"})),
        Group(tmp_path / "pids" / "node", 1, frozenset({"pids"})),
    ]


def test_a_named_folder_that_is_no_group_or_does_not_serve_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    mounts = tree(tmp_path / "tree")
    (group(tmp_path / "tree", "closed") / "cgroup.subtree_control").unlink()
    group(tmp_path / "tree", "bare", "cpu")
    for folder, problem in (
        (tmp_path, "is not a control group"),
        (tmp_path / "tree" / "missing", "is not a control group"),
        (tmp_path / "tree" / "bare", "neither the memory nor the pids controller"),
        (tmp_path / "tree" / "closed", r"cannot write .*closed/cgroup\.subtree_control"),
    ):
        with pytest.raises(OptionError, match=f"cgroup.*{problem}"):
            usable_groups([folder], "", mounts)


@pytest.mark.parametrize(
    ("version", "controllers", "limits", "written"),
    [
        (2, BOTH, LIMITS, {"memory.max": "1000", "pids.max": "50"}),
        (1, {"memory"}, LIMITS, {"memory.limit_in_bytes": "1000"}),
        (1, {"pids"}, LIMITS, {"pids.max": "50"}),
        (2, BOTH, Limits(max_files=64), {}),
    ],
)
def test_limits_are_written_where_the_version_has_them(
    version: int, controllers: set[str], limits: Limits, written: dict[str, str]
) -> None:
    found = list(settings(Group(Path("/"), version, frozenset(controllers)), limits))
    assert {file: text for file, text, needed in found if needed} == written


def test_swap_is_no_way_around_the_limit_of_memory_and_the_whole_server_ends() -> None:
    extra = {
        version: {file: text for file, text, needed in settings(Group(Path("/"), version, BOTH), LIMITS) if not needed}
        for version in (1, 2)
    }
    assert extra == {
        1: {"memory.memsw.limit_in_bytes": "1000"},
        2: {"memory.swap.max": "0", "memory.oom.group": "1"},
    }


@pytest.mark.parametrize(("version", "file"), [(1, "memory.oom_control"), (2, "memory.events")])
def test_what_was_wanted_in_excess_is_told_by_the_kernels_counts(tmp_path: Path, version: int, file: str) -> None:
    of = Group(tmp_path, version, BOTH)
    assert list(excess(of, tmp_path, LIMITS)) == []
    (tmp_path / file).write_text("oom_kill_disable 0\noom 7\noom_kill 0\n", encoding="ascii")
    (tmp_path / "pids.events").write_text("max 0\n", encoding="ascii")
    assert list(excess(of, tmp_path, LIMITS)) == []
    (tmp_path / file).write_text("oom 0\noom_kill 2\n", encoding="ascii")
    (tmp_path / "pids.events").write_text("max 3\n", encoding="ascii")
    memory, processes = excess(of, tmp_path, LIMITS)
    assert "max_memory=1000" in memory
    assert "max_processes=50" in processes
    limit, peak = (
        ("memory.max", "memory.peak") if version != 1 else ("memory.limit_in_bytes", "memory.max_usage_in_bytes")
    )
    (tmp_path / peak).write_text("990\n", encoding="ascii")
    assert "its peak was 990 bytes" in next(excess(of, tmp_path, LIMITS))
    # Without a limit of its own, that of a group around it was reached.
    (tmp_path / limit).write_text("2000\n", encoding="ascii")
    (killed,) = excess(of, tmp_path, Limits())
    assert killed.endswith(f"no memory left: the control group {tmp_path} may take 2000 bytes, its peak was 990")
