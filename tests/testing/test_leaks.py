"""The check for leaks finds each kind of leak, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
import trio

from discoro_trio.testing import _leaks, check_leaks


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_leaks, "_SETTLE", 0.1)


async def test_a_block_that_leaves_nothing_passes() -> None:
    async with check_leaks():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
        with tempfile.TemporaryDirectory(prefix=f"discoro-{os.getpid()}-"):
            pass


async def test_a_task_is_found() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(AssertionError, match="1 tasks"):
            async with check_leaks():
                nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()


async def test_a_descriptor_is_found() -> None:
    leaked = -1
    with pytest.raises(AssertionError, match="1 descriptors"):
        async with check_leaks():
            leaked = os.open(os.devnull, os.O_RDONLY)
    os.close(leaked)


async def test_a_process_is_found() -> None:
    with pytest.raises(AssertionError, match="processes"):
        async with check_leaks():
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)  # noqa: ASYNC220
    process.kill()
    process.communicate()


async def test_a_folder_is_found() -> None:
    with pytest.raises(AssertionError, match="folders"):
        async with check_leaks():
            folder = tempfile.mkdtemp(prefix=f"discoro-{os.getpid()}-")
    os.rmdir(folder)  # noqa: PTH106 - pathlib's would be asked not to block
