"""The examples of nurseries, supervision and back-pressure run, and print what they should."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.test_examples import run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.example, pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")]


@pytest.mark.spec("B01", "B02")
def test_all_searches_have_ended_when_one_has_found_something(tmp_path: Path) -> None:
    text = run_example("nursery.py", tmp_path, "--servers", "2", "--zeros", "3", "--searches", "4")
    ((found, digest),) = re.findall(r"The digest of (\d+) is (\w+)…", text)
    assert digest.startswith("000")
    assert "Searches that still run: 0\n" in text
    ends = re.findall(r"search (\d) ends after \d+ numbers", text)
    assert str(int(found) % 4) in ends  # others may have been cancelled before they began
    assert ends == sorted(set(ends) & set("0123"))


@pytest.mark.fault("F01")
def test_the_service_is_found_again_after_each_kill(tmp_path: Path) -> None:
    text = run_example("supervised.py", tmp_path, "--servers", "2", "--kills", "2")
    assert re.findall(r"(\d) squared is (\d)", text) == [("0", "0"), ("1", "1"), ("2", "4")]
    assert len(re.findall(r"The server of 127\.0\.0\.1:\d+ is killed", text)) == 2
    assert text.endswith("The service was there for every question.\n")


@pytest.mark.spec("B06")
def test_a_slow_stage_slows_the_others_down_and_nothing_is_lost(tmp_path: Path) -> None:
    text = run_example("pipeline.py", tmp_path, "--servers", "2", "--count", "10000")
    assert f"The sum of 10000 squares is {sum(number * number for number in range(10_000))}.\n" in text
    (ahead,) = re.findall(r"at most (\d+) numbers ahead", text)
    # Two mailboxes of 1,024, and what the stages say every 500 numbers.
    assert 0 < int(ahead) <= 2 * 1024 + 3 * 500


def test_a_pool_gives_the_item_of_a_lost_worker_to_another_one(tmp_path: Path) -> None:
    for crash, uses in ((0, range(2, 8)), (1, [7])):
        text = run_example("worker_pool.py", tmp_path, "--servers", "2", "--crash_after", str(crash))
        assert sorted(re.findall(r"(\d+) squared is (\d+)", text)) == [(str(n), str(n * n)) for n in range(8)]
        assert max(int(use) for use in re.findall(r"use (\d+)", text)) in uses
