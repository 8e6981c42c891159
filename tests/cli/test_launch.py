"""`discoro launch`: nodes that last as long as the command, in a terminal of their own."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import discoro_trio as discoro
from discoro_trio._link.secret._secret_file import load_secret
from tests._ports import free_udp_port
from tests.cli.programs import ROOT, SECONDS, SECRET, environment, output

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.program, pytest.mark.spec("B36")]
PLACE = re.compile(r'schedule\("(.*)"\)')


async def double(value: int) -> int:
    return 2 * value


@contextmanager
def launching(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the command until a program can use its nodes; give its process and what it has printed."""
    command = [sys.executable, "-m", "discoro_trio", "launch", *arguments, "--no_discover"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as run:
        try:
            assert run.stdout is not None
            lines = []
            for line in run.stdout:
                lines.append(line.rstrip())
                if PLACE.search(line):
                    break
            yield run, lines
        finally:
            run.kill()


def place(lines: list[str]) -> str:
    found = PLACE.search(lines[-1])
    assert found is not None, lines
    return found[1]


async def use(where: str, servers: int) -> None:
    """Run a computation there."""
    async with (
        discoro.open_endpoint(udp_port=free_udp_port(), secret=SECRET),
        discoro.Computation([double]).schedule(where, servers=servers) as computation,
    ):
        assert await computation.run_results(double, range(4)) == [0, 2, 4, 6]


async def test_local_nodes_serve_other_programs_until_ctrl_c() -> None:
    with launching("local", "2") as (run, lines):
        await use(place(lines), 2)
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        assert run.stderr is not None
        printed = [*lines, *run.stdout.read().splitlines()]
        assert run.wait(SECONDS) == 0, run.stderr.read()
    for name in ("local1", "local2"):
        assert any(line.startswith(f"{name} running at 127.0.0.1:") for line in printed)
        assert f"{name} ended: the scheduler's block was left" in printed


@pytest.mark.option("discoro launch local --cpus")
async def test_nodes_join_a_scheduler_that_runs_already_and_end_with_it() -> None:
    with launching("local", "1", "--cpus", "2") as (first, lines):
        where = place(lines)
        with launching("local", "1", "--scheduler", where) as (second, others):
            assert place(others) == where
            await use(where, 3)
            first.send_signal(signal.SIGINT)
            first.wait(SECONDS)
            assert second.stderr is not None
            assert second.stderr.read().splitlines()[-1] == "discoro: all nodes have ended"
            assert second.wait(SECONDS) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ssh"], "Missing argument 'HOSTS...'"),
        (["ssh", "a", "a"], "hosts must be one host or more, each once"),
        (["pbs", "--time", "soon"], "time must be a text such as"),
        (["sge", "--cpus", "2"], "needs parallel_environment"),
        (["lsf"], "bsub is not installed here"),
        (["local", "--scheduler", "127.0.0.1:9"], "cannot be reached: connection refused"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_one_line(arguments: list[str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "discoro_trio", "launch", *arguments, "--no_discover"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode in {1, 2}
    assert text in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_an_example_starts_its_own_nodes() -> None:
    program = [sys.executable, str(ROOT / "examples" / "corpus.py"), "--files", "4", "--launch", "local:2"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert "2 servers, results" in done.stdout


async def test_the_objects_for_kubernetes_are_printed_with_the_secret_and_the_place() -> None:
    options = ("--image", "registry/image", "--nodes", "3", "--namespace", "here", "--print")
    done = await output("launch", "kubernetes", *options, "--scheduler", "10.0.0.1:7000")
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert [(one["kind"], one["metadata"]["namespace"]) for one in items] == [
        ("Secret", "here"),
        ("Service", "here"),
        ("Job", "here"),
    ]
    order = json.loads(base64.b64decode(items[0]["data"]["order"]))
    assert (order["secret"], order["addr"], order["port"]) == (load_secret(SECRET).key.hex(), "10.0.0.1", 7000)
    assert items[2]["spec"]["completions"] == 3
    (container,) = items[2]["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"][1]) == ("registry/image", "$(POD_NAME)")
    refused = await output("launch", "kubernetes", *options)
    assert refused.returncode == 2
    assert b"--print needs --scheduler HOST:PORT" in refused.stderr


async def test_nodes_are_started_for_work_with_adaptive() -> None:
    with launching("local", "--adaptive", "0:1") as (run, lines):
        await use(place(lines), 1)
        run.send_signal(signal.SIGINT)
        assert run.stdout is not None
        assert run.stderr is not None
        assert "local1 running at " in run.stdout.read()
        assert run.wait(SECONDS) == 0, run.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("1-2",), "expected MIN:MAX"), (("3:2",), "minimum must be"), (("0:2", "--scheduler", "h:1"), "leave out")],
)
def test_bounds_that_cannot_work_are_refused(arguments: tuple[str, ...], text: str) -> None:
    command = [sys.executable, "-m", "discoro_trio", "launch", "local", "--adaptive", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=SECONDS)
    assert done.returncode == 2
    assert text in done.stderr
