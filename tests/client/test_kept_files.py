"""What is left of a computation's files at a node."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def write() -> str:
    Path("result.txt").write_text("kept", encoding="utf-8")
    return str(Path("result.txt").absolute())


def check(path: Path, dest_path: Path, *, stays: bool) -> None:
    assert path.exists() is stays
    assert not list(dest_path.glob("discoro-*"))
    if stays:
        # One server has run something; what stays is named for the computation.
        (folder,) = dest_path.iterdir()
        assert folder.name.startswith("files-a_run_of_ours-")
        assert [path.parent] == list(folder.iterdir())
        assert path.read_text() == "kept"


@pytest.mark.spec("S105")
@pytest.mark.parametrize(
    ("cleanup", "named", "stays"), [(False, True, True), (True, True, False), (False, False, False)]
)
async def test_files_stay_only_where_the_node_has_a_place_and_the_computation_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cleanup: bool, named: bool, stays: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with trio.fail_after(30):
        async with (
            discoro.open_cluster(servers=2, dest_path=tmp_path if named else None),
            discoro.Computation([write], cleanup=cleanup, name="a run/of\nours").schedule() as computation,
        ):
            path = Path(await computation.run_result(write))
    check(path, tmp_path, stays=stays)


@pytest.mark.spec("S105")
async def test_where_files_stay_is_logged_and_where_they_do_not_the_client_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "discoro_trio")
    for dest_path in (tmp_path, None):
        with trio.fail_after(30):
            async with (
                discoro.open_cluster(servers=1, dest_path=dest_path) as scheduler,
                discoro.Computation([write], cleanup=False, name="run").schedule() as computation,
            ):
                path = await computation.run_result(write)
                folder = str(Path(path).parent) if dest_path is not None else ""
                while [one.files for one in (await scheduler.status()).servers] != [folder]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
        if dest_path is not None:
            place = str(Path(path).parents[1])
            assert f"the computation run is over; its files stay in {place}" in caplog.text
            assert "keeps no files" not in caplog.text
    assert "keeps no files, as it was started without dest_path" in caplog.text
