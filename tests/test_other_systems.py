"""The programs of other systems on the pages for their users print what ours beside them print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests._network import open_network
from tests.test_documentation import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests._network import Host

pytestmark = pytest.mark.clusters
PAGE = "docs/coming_from/"
SECONDS = 180.0
NOT_STARTED = "timed out during startup"
"""Ray gives up if its own processes need more than 30 s to start, whatever the options."""
MORE_ATTEMPTS = 4


def pairs() -> dict[str, tuple[str, str]]:
    """Give each program of another system, by its place, with the program of ours that follows it."""
    theirs = blocks("py")
    both = [(place, code) for place, code in blocks("py", "python").items() if place.startswith(PAGE)]
    return {place: (code, ours) for (place, code), (_, ours) in pairwise(both) if place in theirs}


PAIRS = pairs()


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Yield an environment in which Ray keeps its files in a folder of the test; its sockets need a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def pycos_node(host: Host, folder: Path) -> Iterator[None]:
    """Run the node that a program of pycos needs; the program looks for it until it is there."""
    options = ["--cpus=2", "--host=127.0.0.1", "--daemon", "--clean", f"--dest_path={folder}"]
    node = subprocess.Popen(
        host.command(sys.executable, "-m", "pycos.dispycosnode", *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def last_line(program: str, folder: Path, environment: dict[str, str], host: Host | None = None) -> str:
    """Run a program, on this machine or on another host, and return the last line that it prints."""
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    command = [sys.executable, str(path)]
    if host is not None:
        command = host.command(*command)
    run = partial(subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    ended = run(check=False)
    for _ in range(MORE_ATTEMPTS):
        if NOT_STARTED in ended.stderr:
            ended = run(check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()[-1]


def test_each_page_for_users_of_a_cluster_has_programs_of_both_sides() -> None:
    pages = {place.partition(":")[0].removeprefix(PAGE) for place in PAIRS}
    assert pages == {"dask.md", "pycos.md", "ray.md"}


@pytest.mark.parametrize("place", PAIRS)
def test_both_programs_print_the_same(place: str, tmp_path: Path, environment: dict[str, str]) -> None:
    theirs, ours = PAIRS[place]
    if "import pycos" in theirs:
        with open_network() as network:  # its ports are fixed, and it broadcasts
            host = network.add_lan().add_host()
            with pycos_node(host, tmp_path):
                printed = last_line(theirs, tmp_path, environment, host)
    else:
        printed = last_line(theirs, tmp_path, environment)
    assert printed == last_line(ours, tmp_path, environment)
