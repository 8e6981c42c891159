"""Nodes whose disk is full."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

import discoro_trio as discoro
from discoro_trio._cluster.node import _lease

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def job(number: int) -> int:
    return number


@pytest.mark.parametrize("size", [MIB // 2 + 1000, 3 * MIB, 30 * MIB])
@pytest.mark.parametrize("checked", [True, False])
async def test_components_that_do_not_fit_are_an_error_and_nothing_of_them_is_left(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, *, checked: bool
) -> None:
    if not checked:  # another program may have filled it meanwhile
        monkeypatch.setattr(_lease, "_check_room", lambda _size, _parent: None)
    file = tmp_path / "large.bin"
    file.write_bytes(random.Random(1).randbytes(size))
    with trio.fail_after(120):
        async with discoro.open_cluster(servers=1, dest_path=small):
            with pytest.raises(discoro.DiscoroError) as caught:
                async with discoro.Computation([job, str(file)]).schedule() as computation:
                    await computation.run_result(job, 1)
            text = str(caught.value)
            assert ("are free in" in text) if checked and size > MIB else ("No space left on device" in text)
            with trio.fail_after(60):
                while list(small.rglob("large.bin")):  # noqa: ASYNC110, ASYNC240 - there is no event
                    await trio.sleep(0.01)
            async with discoro.Computation([job]).schedule() as computation:
                assert await computation.run_result(job, 1) == 1
