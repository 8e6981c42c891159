"""The examples with `--nodes`: two programs `discoronode` run all the time, and one example after another uses them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.client.clusters import environment
from tests.test_examples import EXAMPLES, run_example

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]

SECRET = "cd" * 32
LISTENS = re.compile(r"listens at (\S+?)[,\s]")

RUNS = {
    "all_to_all_messages": (["--size", "6", "--count", "20"], "all arrived"),
    "corpus": (["--files", "8"], "The totals are equal."),
    "crawler": (["http://127.0.0.1:1/"], r"Connection refused.*\n0 words"),
    "cpu_jobs_with_messages": (["--tasks", "3", "--size", "1000"], r"There are 430 primes below 3000\.\n$"),
    "watch_status_three_ways": (["--jobs", "4", "--port", "0"], "4 jobs were created, 4 have ended"),
    "jobs_in_threads": (["--jobs", "2"], r"(?s)password 0: .*password 1: "),
    "messages_from_threads": (["--jobs", "2"], "password 1: round 4 of 4"),
    "one_job_per_server": (["--jobs", "4", "--points", "20000"], r"The mean of 4 jobs is 3\.1"),
    "initialise_servers": (["--words", "1000"], r"(?s)keeps 1000 words.*keeps 1000 words.*0 words have the letter x"),
    "external_program": (["--count", "3"], "the program ended with status 0"),
    "ship_dependencies": ([], "2 texts were read|3 texts were read"),
    "request_reply": ([], r"Then: waited 0\.4 s\n$"),
    "run_on_each_new_server": (["--count", "2"], r"2 servers have answered\.\n$"),
    "submit_when_available": (["--jobs", "20"], r"The sum of 20 squares is 2470\.\n$"),
    "files_to_servers_and_back": ([], ""),
    "load_file_on_new_servers": (["Memory"], r"[1-9]\d* lines of load_file_on_new_servers.py have 'Memory'"),
    "stream_to_coroutines": ([], "numbers watched"),
    "watch_in_browser": (["--jobs", "4", "--longest", "0.2", "--port", "0"], "4 jobs took"),
    "files_round_trip": ([], "bytes are there"),
    "log_search": (["--most", "3"], r"3 hits, which is enough\.\n$"),
    "mandelbrot": (["--frames", "1", "--size", "16"], r"mandelbrot000\.png shows 3 of the plane"),
    "nursery": (["--zeros", "3", "--searches", "4"], "Searches that still run: 0\n"),
    "option_pricing": (["--tolerance", "0.1"], r"the formula gives 7\.1281\.\n$"),
    "pingpong": (["--count", "100"], ""),
    "pipeline": (["--count", "2000"], "The sum of 2000 squares is"),
    "rci_monitor": ([], r"10 / 4 = 2\.5"),
    "supervised": (["--kills", "1"], r"The service was there for every question\.\n$"),
    "worker_pool": ([], "7 squared is 49"),
    "thread_ring": (["--size", "50", "--hops", "200"], "after 200 hops the token is at coroutine"),
}
"""The options of each example, and what it prints."""

MONITORED = {"watch_status_three_ways", "watch_in_browser"}


@contextmanager
def node(folder: Path, address: str) -> Iterator[str]:
    """Run a node with one server; give its location."""
    folder.mkdir()
    command = [sys.executable, "-m", "discoro_trio", "node", "--cpus", "1", "--no_discover", "--ip_addr", address]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(folder), cwd=folder)
    try:
        assert running.stderr is not None
        found = None
        while found is None:
            line = running.stderr.readline()
            assert line, "the node has ended"
            found = LISTENS.search(line)
        yield found[1]
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
    assert not list((folder / "tmp").iterdir())


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Run two nodes with an address each."""
    folder = tmp_path_factory.mktemp("nodes")
    before = os.environ.get("DISCORO_SECRET")
    os.environ["DISCORO_SECRET"] = SECRET
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(node(folder / address, address)) for address in ("127.0.0.1", "127.0.0.2")]
    finally:
        if before is None:
            del os.environ["DISCORO_SECRET"]
        else:
            os.environ["DISCORO_SECRET"] = before


def test_every_example_that_takes_nodes_is_tried_with_them() -> None:
    paths = [path for path in EXAMPLES.glob("*.py") if not path.name.startswith("_")]
    takes_nodes = {path.stem for path in paths if "cluster_of(options)" in path.read_text(encoding="utf-8")}
    assert takes_nodes == RUNS.keys()


@pytest.mark.slow
@pytest.mark.spec("S03")
@pytest.mark.parametrize("name", RUNS)
def test_an_example_gives_the_same_on_nodes_that_run_already(name: str, nodes: list[str], tmp_path: Path) -> None:
    options, expected = RUNS[name]
    errors = "monitor: http://.*\n" if name in MONITORED else ""
    text = run_example(f"{name}.py", tmp_path, *options, "--nodes", *nodes, errors=errors)
    assert re.search(expected, text), text
