"""What speaks for it that the kernel killed a server for memory; the kernel's files are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from discoro_trio._cluster.isolation import _out_of_memory
from discoro_trio._cluster.isolation._out_of_memory import OutOfMemory

if TYPE_CHECKING:
    from pathlib import Path

    import trio.testing

pytestmark = pytest.mark.usefixtures("kernel")

V2_MOUNT = "30 23 0:26 / {0} rw - cgroup2 none rw\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_out_of_memory, "read_groups", lambda: ("0::/\n", V2_MOUNT.format(tmp_path)))
    monkeypatch.setattr(_out_of_memory, "_MACHINE", tmp_path / "vmstat")
    monkeypatch.setattr(_out_of_memory, "_LOG", tmp_path / "kmsg")
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    (tmp_path / "memory.max").write_text("1000")
    say(tmp_path, group=4, machine=5)


def say(folder: Path, *, group: int = 4, machine: int = 5, log: str = "") -> None:
    (folder / "memory.events").write_text(f"oom 9\noom_kill {group}\n")
    (folder / "vmstat").write_text(f"nr_free_pages 3\noom_kill {machine}\n")
    (folder / "kmsg").write_text(log)


async def test_without_a_count_that_grew_a_kill_is_not_put_down_to_memory(tmp_path: Path) -> None:
    memory = OutOfMemory()
    say(tmp_path, log="6,1,2,-;Killed process 123 (python)\n")
    assert memory.cause(12) == ""


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"group": 5, "machine": 6}, "may take 1000 bytes"),
        ({"machine": 6}, "the kernel probably killed it because there was no memory left on this machine"),
        ({"log": "6,1,2,-;Killed process 12 (python)\n"}, "killed it because there was no memory left on this machine"),
    ],
)
async def test_the_best_witness_is_named(tmp_path: Path, counts: dict[str, int | str], said: str) -> None:
    memory = OutOfMemory()
    say(tmp_path, **counts)  # type: ignore[arg-type]
    assert said in memory.cause(12)


async def test_a_kill_of_long_ago_explains_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    memory = OutOfMemory()
    say(tmp_path, machine=6)
    assert memory.cause(12)
    assert memory.cause(13)  # two may have been killed at once
    autojump_clock.jump(60)
    assert memory.cause(14) == ""
