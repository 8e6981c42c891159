"""The page on security names tests that exist, and says what a job can reach."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_each_way_in_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/[^`]+)`", row.rsplit(" | ", 1)[1])
        assert named, row
        assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.spec("S106")
def test_the_page_says_what_a_job_can_reach_and_how_that_is_narrowed() -> None:
    section = PAGE.partition("## What a job can reach")[2].partition("\n## ")[0]
    for word in ("user", "working folders", "secret", "container"):
        assert word in section
