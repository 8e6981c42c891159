"""What jobs leave for the end of their process: handlers of `atexit`, and data in the buffers of open files."""

from __future__ import annotations

import atexit
import gzip
import sys
import time
from pathlib import Path

import pytest
import trio

import discoro_trio as discoro
from tests._deadlines import Stopwatch
from tests.client.clusters import open_computation

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")


def leave(folder: str) -> None:
    """Leave a handler that prints and writes a file, and open files of three kinds."""
    text = Path(folder, "text").open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
    text.write("text")
    binary = Path(folder, "binary").open("wb")  # noqa: SIM115
    binary.write(b"bytes")
    packed = gzip.open(f"{folder}/packed", "wb")  # noqa: SIM115
    packed.write(b"packed")
    vars(sys.modules["__main__"]).update(kept=[text, binary, packed])

    def handler() -> None:
        sys.stdout.write("the handler has run\n")
        text.write(" and more")

    atexit.register(handler)


def never_end() -> None:
    atexit.register(time.sleep, 600)


async def test_exit_handlers_run_and_buffers_are_written_when_a_computation_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with open_computation([leave], servers=1) as computation:
        await computation.run_result(leave, str(tmp_path))
    assert (tmp_path / "text").read_text() == "text and more"
    assert (tmp_path / "binary").read_bytes() == b"bytes"
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == b"packed"
    assert "the handler has run" in capfd.readouterr().out


async def test_an_idle_server_runs_them_too(tmp_path: Path) -> None:
    async with open_computation([leave], servers=1, zombie_period=0.2) as computation:
        await computation.run_result(leave, str(tmp_path))
        text = tmp_path / "text"
        while text.read_text() != "text and more":  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.02)


async def test_a_handler_that_does_not_return_has_the_grace_period() -> None:
    async with discoro.open_cluster(servers=1):
        with trio.fail_after(45):
            async with discoro.Computation([never_end], grace_period=0.5).schedule() as computation:
                await computation.run_result(never_end)
                closed = Stopwatch()
            assert closed.undisturbed < 5
