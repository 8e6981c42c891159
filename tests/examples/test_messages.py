"""The examples of messages, channels, names, RCI and files run, and print what they should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.example

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    "all_to_all_messages",
    "channel_chat",
    "stream_to_coroutines",
    "files_round_trip",
    "pingpong",
    "rci_monitor",
    "thread_ring",
]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Give a function that runs an example in an empty folder and returns what it prints."""

    def run_example(name: str, *options: str) -> str:
        environment = {
            **os.environ,
            "DISCORO_SECRET": "ab" * 32,
            "PYTHONPATH": str(EXAMPLES.parent),
            "PYTHONUNBUFFERED": "1",
        }
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}.py"), *options],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        assert not list(tmp_path.iterdir())
        return done.stdout

    return run_example


@pytest.mark.parametrize("name", NAMES)
def test_each_example_says_what_it_does(run: Callable[..., str], name: str) -> None:
    text = run(name, "--help")
    assert text.startswith(f"usage: {name}.py")
    assert "--help" in text


@pytest.mark.spec("S16")
def test_numbers_are_streamed_to_two_coroutines(run: Callable[..., str]) -> None:
    printed = run("stream_to_coroutines", "--servers", "2", "--count", "20000", "--window", "2000")
    alarms = re.findall(r"after (\d+) numbers: the mean of the window is ([0-9.]+)", printed)
    assert [int(number) for number, _ in alarms] == [12000, 14000, 16000, 18000, 20000]
    assert all(0.4 < float(mean) < 1.1 for _, mean in alarms)
    assert "20000 numbers watched" in printed
    assert re.search(r"\d{6} bytes saved", printed)


@pytest.mark.spec("B15", "B16")
def test_programs_chat_over_a_public_channel(run: Callable[..., str]) -> None:
    lines = run("channel_chat").splitlines()
    assert lines[0].startswith("the room is open: ")
    assert sorted(lines[1:5]) == [
        "ann: Hello, is anybody here?",
        "ann: Nice to meet you.",
        "bob: I am.",
        "bob: See you!",
    ]
    assert lines[5:] == ["the room is closed", "everybody has gone"]


@pytest.mark.spec("S02")
def test_coroutines_of_an_offered_function_are_monitored(run: Callable[..., str]) -> None:
    lines = run("rci_monitor", "--servers", "1").splitlines()
    assert lines[0] == "10 / 4 = 2.5"
    assert sorted(lines[1:]) == [
        "division has ended with ZeroDivisionError: division by zero",
        "division has ended with value 0.5",
        "division has ended with value 1.0",
    ]


def test_a_file_goes_there_and_another_comes_back(run: Callable[..., str]) -> None:
    printed = run("files_round_trip", "--servers", "1")
    size = (EXAMPLES / "files_round_trip.py").stat().st_size
    assert f"{size} of {size} bytes are there" in printed
    assert re.search(r"files_round_trip.py has \d+ words", printed)


@pytest.mark.spec("S73")
def test_a_ball_goes_to_and_fro_between_two_servers(run: Callable[..., str]) -> None:
    printed = run("pingpong", "--servers", "2", "--count", "300")
    found = re.match(r"(\S+) and (\S+): 300 round trips", printed)
    assert found is not None
    assert found[1] != found[2]


def test_a_token_goes_around_all_servers(run: Callable[..., str]) -> None:
    printed = run("thread_ring", "--servers", "2", "--hops", "1234")
    assert "500 coroutines at 2 servers" in printed
    assert "after 1234 hops the token is at coroutine 234 of" in printed


@pytest.mark.spec("B06")
def test_all_send_to_all_and_all_arrives(run: Callable[..., str]) -> None:
    printed = run("all_to_all_messages", "--servers", "2", "--size", "10", "--count", "150")
    assert "13500 messages between 10 coroutines" in printed
    assert "all arrived" in printed
