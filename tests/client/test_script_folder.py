"""Servers on this machine have what servers elsewhere have: what is installed and what is shipped."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import trio
import discoro_trio as discoro

async def use():
    import beside
    return beside.VALUE

async def main():
    async with discoro.open_cluster(servers=1), discoro.Computation([use]).schedule() as computation:
        print(await computation.run_result(use))

trio.run(main)
"""


@pytest.mark.spec("S47", "B31")
def test_a_module_beside_the_program_is_there_if_code_names_it_or_it_is_listed(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 42\n")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    assert run(program).stdout == "42\n"
    program.write_text(PROGRAM.replace("[use]", "[use], automatic=False"))
    assert "ModuleNotFoundError: No module named 'beside'" in run(program).stderr
    listed = PROGRAM.replace("import trio", "import beside\nimport trio")
    program.write_text(listed.replace("[use]", "[use, beside], automatic=False"))
    assert run(program).stdout == "42\n"


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
