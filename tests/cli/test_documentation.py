"""The page about the programs says what it has to, and names options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from discoro_trio._cli._discoro import discoro
from discoro_trio._cli._node import node

PAGE = Path(__file__).parents[2] / "docs" / "programs.md"
OF_OTHERS = {"--now", "--no-deps", "--rm", "--network", "--user", "--memory", "--pids-limit", "--help"}
"""Options of systemctl, pip and docker, and the one that click adds."""


def test_every_option_on_the_page_is_one_of_the_programs() -> None:
    known = {name for command in (node, discoro) for parameter in command.params for name in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE.read_text(encoding="utf-8")))
    assert named - OF_OTHERS <= known


@pytest.mark.spec("S106", "S107", "S108", "S109")
@pytest.mark.parametrize(
    "text", ["A user of its own", "MemoryMax=", "docker build", "discoronode --serve 1", "runs as the user that runs"]
)
def test_the_page_says_what_a_job_can_reach_and_shows_containers(text: str) -> None:
    assert text in PAGE.read_text(encoding="utf-8")
