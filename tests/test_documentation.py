"""The code in README and documentation is what it says: programs run, fragments compile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Give each block of Python with the page and the line where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append((f"{page.name}:{line}", match.group(1)))
    return found


BLOCKS = dict(blocks())


def is_program(code: str) -> bool:
    return "trio.run(" in code


def test_there_are_programs_to_run() -> None:
    assert sum(map(is_program, BLOCKS.values())) >= 4


@pytest.mark.parametrize("place", BLOCKS)
def test_code_is_right(place: str, tmp_path: Path) -> None:
    code = BLOCKS[place]
    if not is_program(code):
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        compile(f"async def fragment():\n{lines}", place, "exec")
        return
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip(), "it shows something"
    assert not ended.stderr, ended.stderr
