"""A control group for each server: made, entered, emptied and removed; on folders made here, and on the kernel's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster.isolation import _server_groups
from discoro_trio._cluster.isolation._control_groups import Group, groups_here, hierarchies, read_groups
from discoro_trio._cluster.isolation._limits import Limits, enter_groups
from discoro_trio._cluster.isolation._server_groups import ServerGroups, open_groups
from discoro_trio._link import OptionError
from tests.client.clusters import until_gone
from tests.test_ports import SECRET, UDP_PORT, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOTH = frozenset({"memory", "pids"})
LIMITS = Limits(max_memory=1000, max_files=70, max_processes=50)
PROCESSES = 50
"""More than a server needs for itself."""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


def text(file: Path) -> str:
    return file.read_text(encoding="ascii")


def remove_fully(folder: str, rmdir: Callable[[str], None] = os.rmdir) -> None:
    for file in Path(folder).iterdir():
        file.unlink()
    rmdir(folder)


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let groups be removed with the kernel's files in them, as the kernel does; give those that were, by name."""
    names: list[str] = []

    def remove(folder: str) -> None:
        names.append(Path(folder).name)
        remove_fully(folder)

    monkeypatch.setattr(os, "rmdir", remove)
    return names


async def test_a_server_has_a_group_with_its_limits_as_long_as_it_lives(tmp_path: Path, removed: list[str]) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "pids").mkdir()
    memory, pids = (Group(tmp_path / name, 1, frozenset({name})) for name in ("memory", "pids"))
    async with ServerGroups(LIMITS, [memory, pids]).open() as group:
        folders = [folder for _parent, folder in group.folders]
        assert [folder.parent for folder in folders] == [memory.folder, pids.folder]
        assert text(folders[0] / "memory.limit_in_bytes") == "1000"
        assert text(folders[1] / "pids.max") == "50"
        assert not (folders[0] / "memory.memsw.limit_in_bytes").exists()  # this kernel has none
        assert group.limits_of_process == Limits(max_memory=1000, max_files=70)
        enter_groups([str(folder) for folder in folders])
        assert [text(folder / "cgroup.procs") for folder in folders] == ["0", "0"]
        (folders[1] / "pids.events").write_text("max 1\n", encoding="ascii")
        assert "max_processes=50" in group.excess
        for folder in folders:
            (folder / "cgroup.procs").write_text("", encoding="ascii")
    assert removed == [folder.name for folder in folders]


async def test_without_a_group_a_server_holds_itself_to_everything(tmp_path: Path) -> None:
    for groups in ([], [Group(tmp_path / "missing", 2, BOTH)]):
        async with ServerGroups(LIMITS, groups).open() as group:
            assert group.folders == ()
            assert group.limits_of_process == LIMITS
            assert group.excess == ""


async def test_a_group_that_can_be_made_in_part_only_is_not_left_behind(tmp_path: Path, removed: list[str]) -> None:
    groups = [Group(tmp_path, 1, frozenset({"memory"})), Group(tmp_path / "missing", 1, frozenset({"pids"}))]
    async with ServerGroups(LIMITS, groups).open() as group:
        assert group.folders == ()
        assert len(removed) == 1


@LINUX
async def test_what_is_left_in_a_group_is_killed(tmp_path: Path, removed: list[str]) -> None:
    async with (
        trio.open_nursery() as nursery,
        ServerGroups(LIMITS, [Group(tmp_path, 1, frozenset({"pids"}))]).open() as group,
    ):
        ((_parent, folder),) = group.folders
        left = await nursery.start(partial(trio.run_process, ["sleep", "5"], check=False))
        (folder / "cgroup.procs").write_text(f"{left.pid}\n", encoding="ascii")
    assert left.returncode == -signal.SIGKILL
    assert removed == [folder.name]


async def test_a_group_in_which_something_still_ends_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    answers = iter([OSError(16, "busy"), OSError(16, "busy"), None])

    def remove(folder: str) -> None:
        answer = next(answers)
        if answer is not None:
            raise answer
        remove_fully(folder)

    monkeypatch.setattr(os, "rmdir", remove)
    async with ServerGroups(LIMITS, [Group(tmp_path, 2, BOTH)]).open() as group:
        ((_parent, folder),) = group.folders
        (folder / "cgroup.procs").touch()
    assert not folder.exists()
    assert trio.current_time() > 0


async def test_version_2_kills_a_group_by_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []

    def remove(_folder: str) -> None:
        words.append(text(folder / "cgroup.kill"))
        remove_fully(str(folder))

    async with ServerGroups(LIMITS, [Group(tmp_path, 2, BOTH)]).open() as group:
        ((_parent, folder),) = group.folders
        (folder / "cgroup.kill").touch()
        monkeypatch.setattr(os, "rmdir", remove)
    assert words == ["1"]


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Give a group of version 2 that this process is in."""
    folder = tmp_path / "unit"
    folder.mkdir()
    mounts = f"41 31 0:38 / {tmp_path} rw - cgroup2 none rw\n"
    monkeypatch.setattr(_server_groups, "read_groups", lambda: ("0::/unit\n", mounts))
    return Group(folder, 2, BOTH)


def test_in_version_2_a_node_moves_beside_its_servers_and_back(unit: Group, removed: list[str]) -> None:
    with open_groups([unit], LIMITS, named=False):
        (leaf,) = (path for path in unit.folder.iterdir() if path.is_dir())
        assert text(leaf / "cgroup.procs") == "0"
        assert text(unit.folder / "cgroup.subtree_control") == "+memory +pids"
        assert not (unit.folder / "cgroup.procs").exists()
    assert text(unit.folder / "cgroup.subtree_control") == "-memory -pids"
    assert text(unit.folder / "cgroup.procs") == "0"
    assert removed == [leaf.name]


def test_a_node_that_came_from_elsewhere_leaves_a_named_group_as_it_made_it(
    unit: Group, tmp_path: Path, removed: list[str]
) -> None:
    named = Group(tmp_path / "named", 2, BOTH)
    named.folder.mkdir()
    with open_groups([named], LIMITS, named=True):
        pass
    assert text(named.folder / "cgroup.subtree_control") == "+memory +pids"
    assert text(unit.folder / "cgroup.procs") == "0"
    assert len(removed) == 1


async def test_a_group_that_takes_no_others_is_an_error_if_it_was_named_and_otherwise_not_used(
    unit: Group, removed: list[str]
) -> None:
    (unit.folder / "cgroup.subtree_control").mkdir()  # cannot be written
    refused = pytest.raises(OptionError, match=r"cgroup.*no groups for servers can be made in")
    with refused, open_groups([unit], LIMITS, named=True):
        pass
    with open_groups([unit], LIMITS, named=False) as groups:
        async with groups.open() as group:
            assert group.limits_of_process == LIMITS
    assert len(removed) == 2  # the node's own, each time


@LINUX
def test_what_a_node_left_that_was_killed_goes_and_that_of_others_stays(tmp_path: Path, removed: list[str]) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    for name in (f"discoro-{dead.pid}-7", f"discoro-{os.getpid()}-7", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    with open_groups([Group(tmp_path, 1, BOTH)], LIMITS, named=True):
        assert removed == [f"discoro-{dead.pid}-7"]


@pytest.fixture
def of_version_2() -> Iterator[Group]:
    """Give a group of the kernel's; of no controllers, which are not needed to end what is in it."""
    tree = next((one for one in hierarchies(read_groups()[1]) if one.version != 1), None)
    if tree is None or os.geteuid() != 0 or not os.access(tree.point, os.W_OK):
        pytest.skip("no hierarchy of version 2 that this user can write")
    folder = tree.point / f"test-of-discoro-{os.getpid()}"
    folder.mkdir()
    yield Group(folder, 2, frozenset())
    folder.rmdir()


async def test_the_kernel_ends_all_in_a_group_with_the_groups_made_in_it(of_version_2: Group) -> None:
    async with ServerGroups(LIMITS, [of_version_2]).open() as group:
        ((_parent, folder),) = group.folders
        (folder / "own").mkdir()
        command = f"echo 0 > {folder}/cgroup.procs; setsid sleep 600 & echo $!; sleep 600"
        with trio.fail_after(60):
            started = await trio.lowlevel.open_process(["sh", "-c", command], stdout=subprocess.PIPE)
            assert started.stdout is not None
            escaped = psutil.Process(int(await started.stdout.receive_some()))
    assert not folder.exists()
    assert await started.wait() == -signal.SIGKILL
    await until_gone([escaped], seconds=2)


@pytest.fixture
def made_for_tests(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Give a group of the kernel's, of version 1, that holds what the parameter names for those below it."""
    name: str = request.param
    tree = next((one for one in hierarchies(read_groups()[1]) if name in one.controllers), None)
    if tree is None or os.geteuid() != 0 or not os.access(tree.point, os.W_OK):
        pytest.skip(f"no hierarchy of version 1 with the controller {name} that this user can write")
    here = next(one.folder for one in groups_here(*read_groups()) if name in one.controllers)
    folder = here / f"test-of-discoro-{os.getpid()}"
    folder.mkdir()
    yield folder
    left = [path.name for path in folder.iterdir() if path.is_dir()]
    folder.rmdir()
    assert left == []


MEMORY = 48 << 20
"""Enough for an interpreter, and for a few of those that share its pages."""

HOG = f"""
import os, sys, time
with open(sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write("0")
def take():
    taken = bytearray({MEMORY * 2 // 3})
    for page in range(0, len(taken), 4096):
        taken[page] = 1
    time.sleep(600)
below = [os.fork() or take() for _ in range(2)]
_, status = os.waitpid(-1, 0)
print(os.waitstatus_to_exitcode(status), flush=True)
time.sleep(600)
"""


@pytest.mark.fault("F28")
@pytest.mark.parametrize("made_for_tests", ["memory"], indirect=True)
async def test_processes_that_take_too_much_memory_only_together_are_held_to_it_by_the_kernel(
    made_for_tests: Path,
) -> None:
    limits = Limits(max_memory=MEMORY, max_files=None, max_processes=None)
    async with ServerGroups(limits, [Group(made_for_tests, 1, frozenset({"memory"}))]).open() as group:
        ((_parent, folder),) = group.folders
        assert group.excess == ""
        with trio.fail_after(30):
            hog = await trio.lowlevel.open_process([sys.executable, "-c", HOG, str(folder)], stdout=subprocess.PIPE)
            assert hog.stdout is not None
            assert int(await hog.stdout.receive_some()) == -signal.SIGKILL
        assert int(text(folder / "memory.max_usage_in_bytes")) <= MEMORY
        assert group.excess.startswith(f"it used more memory than max_memory={MEMORY}; its peak was ")
    assert await hog.wait() == -signal.SIGKILL  # it went with its group
    assert not folder.exists()


def start_many(wanted: int) -> tuple[list[int], str]:
    """Start processes that leave the server's process group, until that is refused."""
    pids: list[int] = []
    try:
        while len(pids) < wanted:
            pids.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
    except OSError as error:
        return pids, type(error).__name__
    return pids, ""


async def end_at_once() -> None:
    os._exit(7)


@pytest.mark.slow
@pytest.mark.fault("F28")
@pytest.mark.parametrize("made_for_tests", ["pids"], indirect=True)
@pytest.mark.option("discoronode --cgroup")
async def test_a_fork_bomb_is_held_to_its_group_and_goes_with_all_that_it_started(made_for_tests: Path) -> None:
    options = ("--cgroup", str(made_for_tests), "--max_processes", str(PROCESSES))
    with trio.fail_after(60):
        async with (
            running("node", "--cpus", "1", *options),
            discoro.open_scheduler(ip_addr="127.0.0.1", udp_port=UDP_PORT, secret=SECRET),
            discoro.Computation([start_many, end_at_once]).schedule() as computation,
        ):
            pids, error = await computation.run_result(start_many, 10 * PROCESSES)
            assert error == "BlockingIOError"
            assert 0 < len(pids) < PROCESSES
            below = [psutil.Process(pid) for pid in pids]
            with pytest.raises(discoro.ServerLost, match=f"wanted more processes than max_processes={PROCESSES}"):
                await computation.run_result(end_at_once)
            await until_gone(below, seconds=2)
            assert await computation.run_result(os.getpid) not in pids  # the next server is there
