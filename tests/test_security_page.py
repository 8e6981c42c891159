"""The page on security is complete: it names tests that exist, numbers as they are, and every option and route."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from discoro_trio import config
from discoro_trio._cli._discoro import discoro
from discoro_trio._cli._node import node

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| way", "| limit"))
]

OPEN_NOTHING = {
    *("cpus", "name", "ext_ip_addr", "max_file_size", "debug", "log_format", "daemon", "version", "help"),
    *("ping_interval", "min_pulse_interval", "max_pulse_interval", "msg_timeout", "pulse_interval", "zombie_period"),
    *("serve", "drain", "service_start", "service_stop", "service_end", "settle", "clean", "poll_sec"),
    *("print_systemd", "print_dockerfile", "show_completion"),
}
"""Options by which nothing can come in or be reached."""


@cache
def functions_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def exists(name: str) -> bool:
    file, _, function = name.partition("::")
    return (ROOT / file).exists() and (not function or function in functions_in(file))


def test_each_way_in_and_each_limit_names_tests_that_exist() -> None:
    assert len(ROWS) >= 60
    for row in ROWS:
        named = re.findall(r"`(tests/[^`]+)`", row.rsplit(" | ", 1)[1])
        assert named, row
        assert [name for name in named if not exists(name)] == []


def test_each_limit_has_the_number_that_is_told() -> None:
    limits = [row.strip("| ").split(" | ") for row in PAGE.partition("## Limits")[2].splitlines() if " | `" in row]
    checked = 0
    for row in limits:
        name = row[2].strip("` ")
        if not name or "/" in name:
            continue
        place, _, attribute = name.rpartition(".")
        owner = config if place == "config" else importlib.import_module(f"discoro_trio.{place}")
        assert float(row[1].replace(",", "")) == getattr(owner, attribute), row
        checked += 1
    assert checked >= 25


def test_every_option_by_which_something_comes_in_is_there() -> None:
    names = {str(option.name) for command in (node, discoro) for option in command.params}
    missing = [name for name in names - OPEN_NOTHING if f"--{name}" not in PAGE]
    assert missing == []
    assert names >= OPEN_NOTHING - {"help"}


def test_every_route_of_the_monitor_is_there() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "discoro_trio" / "_monitor").glob("*.py")]
    pattern = re.compile(r'@?(?:api|app)\.(?:get|post|put|delete|patch|route|websocket)\("(/[^"]*)"')
    routes = {route for source in sources for route in pattern.findall(source)}
    assert len(routes) >= 12
    told = re.findall(r"`(/[^`]*)`", PAGE.partition("### The monitor")[2].partition("\n## ")[0])
    assert {"/", "/api/v1/", "/api/v1/actions/"} <= set(told)
    below = tuple(place for place in told if place.endswith("/") and place != "/")
    assert [route for route in routes if route not in told and not route.startswith(below)] == []


@pytest.mark.spec("S106")
def test_the_page_says_what_a_job_can_reach_and_how_that_is_narrowed() -> None:
    section = PAGE.partition("## What a job can reach")[2].partition("\n## ")[0]
    for word in ("user", "working folders", "secret", "container"):
        assert word in section
