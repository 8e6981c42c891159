"""What is left of a computation's files at a node."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def write() -> None:
    Path("result.txt").write_text("kept", encoding="utf-8")


def check(folder: Path, left: int) -> None:
    found = sorted(folder.rglob("result.txt"))
    assert [path.parent.name.startswith("server-1-") for path in found] == [True] * left
    assert not list(folder.glob("discoro-*"))


@pytest.mark.spec("S105")
@pytest.mark.parametrize(("cleanup", "named", "left"), [(False, True, 1), (True, True, 0), (False, False, 0)])
async def test_files_stay_only_where_the_node_has_a_place_and_the_computation_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cleanup: bool, named: bool, left: int
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=1, dest_path=tmp_path if named else None),
            discoro.Computation([write], cleanup=cleanup).schedule() as computation,
        ):
            await computation.run_result(write)
    check(tmp_path, left)
