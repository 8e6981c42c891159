"""The folders of nodes that were killed together with their fork servers, and those that look like them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cli import _node as cli
from discoro_trio._cluster.node import _node, _startup
from discoro_trio._cluster.node._stale_folders import sweep
from discoro_trio._cluster.node._startup import LOCK_FILE, remove_folder, working_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

ROOT = Path(__file__).parents[3]
NODE = """
import sys, trio, psutil, discoro_trio as discoro
from pathlib import Path

async def main():
    async with (
        discoro.open_cluster(servers=1, dest_path=sys.argv[1] or None),
        discoro.Computation([]).schedule() as computation,
    ):
        if sys.argv[2]:
            await computation.run_result(int)
        print(*[child.pid for child in psutil.Process().children()], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder for temporary files of this process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@asynccontextmanager
async def node_program(
    parent: Path, dest_path: str = "", *, loaded: bool = True
) -> AsyncIterator[tuple[trio.Process, int]]:
    """Run a cluster as a program of its own; give it and the process id of its fork server, which may still load."""
    node = await trio.lowlevel.open_process(
        [sys.executable, "-c", NODE, dest_path, "loaded" * loaded],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(parent), "PYTHONPATH": str(ROOT)},
    )
    assert node.stdout is not None
    try:
        with trio.fail_after(30):
            (fork_server,) = (await node.stdout.receive_some()).split()
        yield node, int(fork_server)
    finally:
        node.kill()
        await node.wait()
        await node.stdout.aclose()


async def leave(parent: Path, dest_path: str = "") -> Path:
    """Kill a node and its fork server, which has no time to remove anything; give the folder."""
    async with node_program(parent, dest_path) as (node, fork_server):
        end = os.pidfd_open(fork_server)
        os.kill(fork_server, signal.SIGSTOP)
        node.kill()
        os.kill(fork_server, signal.SIGKILL)
        await trio.lowlevel.wait_readable(end)
        os.close(end)
    return the_folder(Path(dest_path or parent))


def the_folder(parent: Path) -> Path:
    """Give the only working folder there."""
    (folder,) = parent.glob("discoro-*")
    return folder


def dead_folder(parent: Path, name: str = "dead") -> Path:
    """Make what a dead node of this kernel has left."""
    folder = parent / f"discoro-1-{name}"
    (folder / "server-1-x").mkdir(parents=True)
    (folder / LOCK_FILE).write_bytes(_startup.this_kernel())
    return folder


@pytest.mark.fault("F02")
async def test_what_a_node_left_that_was_killed_with_its_fork_server_goes_when_the_next_one_works(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await leave(parent)
    assert left.exists()
    monkeypatch.setattr(_node, "SWEEP_SECONDS", 0)
    with trio.fail_after(45):
        async with discoro.open_cluster(servers=1):
            while left.exists():  # noqa: ASYNC110 - nobody tells of it
                await trio.sleep(0.01)
            assert the_folder(parent).name.startswith(f"discoro-{os.getpid()}-")


@pytest.mark.fault("F02")
@pytest.mark.parametrize("loaded", [True, False])
async def test_the_fork_server_of_a_killed_node_removes_its_folder(
    parent: Path,
    loaded: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with node_program(parent, loaded=loaded) as (node, fork_server):
        folder = the_folder(parent)
        end = os.pidfd_open(fork_server)
        node.kill()
        with trio.fail_after(60):
            await trio.lowlevel.wait_readable(end)
        os.close(end)
        assert not folder.exists()


async def test_the_folder_of_a_living_node_stays_whatever_its_name_says(parent: Path) -> None:
    async with node_program(parent) as (node, _fork_server):
        named = the_folder(parent).rename(parent / "discoro-99999999-dead")  # as seen from another container
        sweep(parent)
        cli.clean(parent)
        assert (named / LOCK_FILE).exists()
        node.kill()
        await node.wait()
        cli.clean(parent)
        assert not named.exists()


async def test_what_is_below_dest_path_stays_for_whoever_asks_for_it(parent: Path) -> None:
    left = await leave(parent, str(parent))
    sweep(parent)
    assert left.exists()
    cli.clean(parent)
    assert not left.exists()


def test_a_node_that_just_makes_its_folder_keeps_it(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look_before(module: Any, name: str) -> None:
        """Have the folder looked at before the node's next step."""
        step = getattr(module, name)

        def looked_at(*args: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(module, name, step)
                sweep(parent)
            looks.append(name)
            return step(*args)

        monkeypatch.setattr(module, name, looked_at)

    look_before(os, "write")
    look_before(fcntl, "flock")
    with working_folder(None) as folder:
        sweep(parent)
        assert (folder / LOCK_FILE).read_bytes() == _startup.this_kernel()
    assert not folder.exists()
    assert set(looks) == {"flock", "write"}


def test_a_folder_without_a_lock_or_of_another_kernel_stays(parent: Path) -> None:
    unlocked, other = dead_folder(parent, "unlocked"), dead_folder(parent, "other")
    (unlocked / LOCK_FILE).unlink()
    (other / LOCK_FILE).write_bytes(_startup.this_kernel() + b"more")
    gone = dead_folder(parent)
    sweep(parent)
    assert sorted(parent.iterdir()) == sorted([unlocked, other])
    assert not gone.exists()


def test_a_folder_of_another_user_stays(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dead_folder(parent)
    me = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: me + 1)
    sweep(parent)
    assert (folder / "server-1-x").exists()
    monkeypatch.setattr("os.geteuid", lambda: me)
    sweep(parent)
    assert not folder.exists()


def test_links_are_not_followed(parent: Path) -> None:
    place = parent / "place"
    place.mkdir()
    elsewhere = dead_folder(place)
    link, linked, within = parent / "discoro-1-link", dead_folder(parent, "linked"), dead_folder(parent, "within")
    link.symlink_to(elsewhere)
    (linked / LOCK_FILE).unlink()
    (linked / LOCK_FILE).symlink_to(elsewhere / LOCK_FILE)
    (within / "server-1-x" / "link").symlink_to(elsewhere)
    (within / "link").symlink_to(elsewhere)
    sweep(parent)
    assert not within.exists()
    assert link.is_symlink()
    assert linked.exists()
    assert sorted(path.name for path in elsewhere.iterdir()) == [LOCK_FILE, "server-1-x"]


def test_what_is_no_lock_file_holds_up_nobody(parent: Path) -> None:
    folder = dead_folder(parent)
    (folder / LOCK_FILE).unlink()
    os.mkfifo(folder / LOCK_FILE)
    sweep(parent)
    assert folder.exists()


def test_a_removal_that_was_interrupted_is_finished_by_the_next_node(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dead_folder(parent)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_args, **_options: None)
        remove_folder(folder)
        sweep(parent)
    assert (folder / LOCK_FILE).exists()
    sweep(parent)
    assert not folder.exists()


def test_where_files_cannot_be_locked_a_folder_is_left_alone(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lock: int, _operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with working_folder(None) as folder:
        assert not (folder / LOCK_FILE).read_bytes()
        sweep(parent)
        assert folder.exists()
    assert not folder.exists()
