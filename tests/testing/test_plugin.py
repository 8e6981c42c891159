"""A project of somebody else uses the plugin's fixtures, as its users would."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROJECT = """
import discoro_trio as discoro

async def add(a, b):
    return a + b

async def pid():
    import os
    return os.getpid()

async def test_function_scope(discoro_cluster):
    async with discoro.Computation([add]).schedule() as computation:
        assert await computation.run_result(add, 1, 2) == 3
        assert len(await computation.run_servers(add, 1, 2)) == 3

seen = []

async def where(cluster):
    async with cluster.open_endpoint():
        async with discoro.Computation([pid]).schedule(cluster.location) as computation:
            return await computation.run_result(pid)

async def test_module_scope(discoro_module_cluster):
    seen.append((discoro_module_cluster, await where(discoro_module_cluster)))

async def test_module_scope_again(discoro_module_cluster):
    seen.append((discoro_module_cluster, await where(discoro_module_cluster)))
    (first, first_pid), (second, second_pid) = seen
    assert first is second
    assert first_pid != second_pid  # each computation has fresh processes
"""


@pytest.mark.spec("B21")
def test_fixtures_of_both_scopes_work_in_a_project_outside(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\ndiscoro_servers = 3\n")
    (tmp_path / "test_sample.py").write_text(PROJECT)
    plugin = ["-p", "discoro_trio.testing._plugin"] if not _is_installed() else []
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr


def _is_installed() -> bool:
    from importlib.metadata import entry_points  # noqa: PLC0415 - only here

    return any(entry.name == "discoro_trio" for entry in entry_points(group="pytest11"))
