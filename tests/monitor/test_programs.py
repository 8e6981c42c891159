"""The programs with the monitor in them: `discoro --http_port`, `discoro monitor`, `discoro top`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from ..client.clusters import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.program,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="servers are forked"),
]
COMMAND = [sys.executable, "-m", "discoro_trio"]


@contextmanager
def program(folder: Path, *arguments: str) -> Iterator[str]:
    """Run a program that serves the monitor; give the address that it says."""
    log = folder / f"{len(list(folder.iterdir()))}.log"
    variables = {**environment(folder), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        running = subprocess.Popen([*COMMAND, *arguments], stdout=file, stderr=subprocess.STDOUT, env=variables)
        try:
            yield address_in(log)
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(15)


def address_in(log: Path) -> str:
    """Wait for the address of the monitor."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def test_the_scheduler_serves_its_own_pages_and_top_shows_them(tmp_path: Path) -> None:
    with program(tmp_path, "--http_port", "0", "--no_discover", "-i", "127.0.0.1") as address:
        with urllib.request.urlopen(f"{address}readyz", timeout=10) as answer:  # noqa: S310 - our own address
            assert answer.status == 200
        top = subprocess.run(
            [*COMMAND, "top", address], capture_output=True, text=True, check=False, env=environment(tmp_path)
        )
        assert (top.returncode, top.stderr) == (0, "")
        assert "cluster 0" in top.stdout


def test_top_says_in_one_line_that_nobody_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "top", "http://127.0.0.1:1"], capture_output=True, text=True, check=False, env=environment(tmp_path)
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "http://127.0.0.1:1 cannot be reached" in done.stderr
