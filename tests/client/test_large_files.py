"""Large files among the components: streamed from disk to the node in bounded memory."""

from __future__ import annotations

import hashlib
import os
import sys
import tracemalloc
from pathlib import Path

import pytest

import discoro_trio as discoro
from discoro_trio._shipping._components import STREAMED, pack

from .clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def digests() -> dict[str, tuple[str, int]]:
    """Give the digest and the mode of all files of the working folder."""
    found = [path for path in Path().rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode & 0o777) for path in found}


@pytest.mark.spec("S45")
async def test_files_around_the_size_from_which_they_are_streamed_arrive_as_they_are(tmp_path: Path) -> None:
    sizes = [0, 1, STREAMED - 1, STREAMED, STREAMED + 1, 3 * STREAMED + 5]
    folder = tmp_path / "folder"
    folder.mkdir()
    expected: dict[str, tuple[str, int]] = {}
    for size in sizes:
        data = os.urandom(size)
        path = folder / f"{size}.bin"
        path.write_bytes(data)
        path.chmod(0o755)
        expected[f"folder/{size}.bin"] = hashlib.sha256(data).hexdigest(), 0o755
    single = tmp_path / "single.bin"
    single.write_bytes(bytes(2 * STREAMED))
    expected["single.bin"] = hashlib.sha256(bytes(2 * STREAMED)).hexdigest(), 0o644
    async with open_computation([digests, folder, single], servers=2) as computation:
        for coro in await computation.run_servers(digests):
            assert await coro.result() == expected


def test_packing_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(200 * STREAMED)
    tracemalloc.start()
    packed = pack([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < STREAMED
    assert packed.streams == (path,)


async def test_a_file_that_is_gone_when_the_node_asks_for_it_leaves_the_node_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(2 * STREAMED))
    computation = discoro.Computation([digests, path])
    set_up = computation._set_up

    def lose_the_file() -> object:
        made = set_up()
        path.unlink()
        return made

    computation._set_up = lose_the_file  # type: ignore[assignment, method-assign]
    async with discoro.open_cluster(servers=1), computation.schedule():
        session = computation._running()
        while not any("cannot be read any more" in record.getMessage() for record in caplog.records):
            await session.waiting.park()
        assert not session.servers
