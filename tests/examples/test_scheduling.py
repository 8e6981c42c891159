"""The examples of scheduling: `ProcScheduler`, status messages, servers' memories."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.client.clusters import Program
from tests.test_examples import EXAMPLES, run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


@pytest.mark.spec("S03", "S05")
async def test_status_messages_reach_the_web_monitor_while_jobs_are_placed(tmp_path: Path) -> None:
    command = [str(EXAMPLES / "watch_status_three_ways.py"), "--jobs", "24", "--servers", "2", "--port", "0"]
    with Program(command, tmp_path) as program, trio.fail_after(60):
        url = (await program.until_line(lambda line: line.startswith("Look at "))).split()[-1]
        while not (await trio.to_thread.run_sync(get_json, f"{url}api/v1/summary"))["submitted"]:  # noqa: ASYNC110
            await trio.sleep(0.02)
        status, _ = await program.ended()
    assert status == 0


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
        return json.load(answer)


@pytest.mark.spec("S03", "S05")
def test_status_messages_reach_a_coroutine_and_a_subscriber_while_jobs_are_placed(tmp_path: Path) -> None:
    options = ["--jobs", "4", "--servers", "2", "--port", "0"]
    text = run_example("watch_status_three_ways.py", tmp_path, *options, errors="monitor: http://.*\n")
    lines = text.splitlines()
    assert lines[-1] == "There are 2262 primes below 20000."
    assert "4 jobs were created, 4 have ended." in lines
    told = [line.partition(":")[0] for line in lines]
    assert told.count("ServerInitialized") == told.count("ServerClosed") == 2
    assert "ComputationClosed" in told


@pytest.mark.spec("S03", "S08")
def test_jobs_and_results_by_execute(tmp_path: Path) -> None:
    text = run_example("one_job_per_server.py", tmp_path, "--jobs", "6", "--points", "20000", "--servers", "2")
    assert len(re.findall(r"^job \d: 3\.1", text, re.MULTILINE)) == 6
    assert "The mean of 6 jobs is 3.1" in text


@pytest.mark.spec("S03", "S09")
def test_every_servers_memory_is_filled_before_jobs_use_it(tmp_path: Path) -> None:
    text = run_example("initialise_servers.py", tmp_path, "--words", "1000", "--servers", "2")
    assert text.count("keeps 1000 words") == 2
    for letter in "0afx":
        count = sum(letter in f"{number:x}" for number in range(1000))
        assert f"\n{count} words have the letter {letter}\n" in text


@pytest.mark.spec("S03", "S12")
def test_servers_are_used_when_status_messages_say_that_they_are_there(tmp_path: Path) -> None:
    text = run_example("run_on_each_new_server.py", tmp_path, "--count", "2", "--servers", "2")
    assert len(set(re.findall(r"hello from (.*)", text))) == 2
    assert text.endswith("2 servers have answered.\n")


@pytest.mark.spec("S03", "S13")
def test_jobs_are_submitted_as_servers_become_available(tmp_path: Path) -> None:
    text = run_example("submit_when_available.py", tmp_path, "--jobs", "20", "--servers", "2")
    assert text.endswith("The sum of 20 squares is 2470.\n")


@pytest.mark.spec("S03", "S15")
def test_each_server_reads_a_file_into_memory_once(tmp_path: Path) -> None:
    text = run_example("load_file_on_new_servers.py", tmp_path, "Memory", "--servers", "1")
    assert len(re.findall(r"has read \d+ lines", text)) == 1
    assert re.search(r"[1-9]\d* lines of load_file_on_new_servers.py have 'Memory'", text)
