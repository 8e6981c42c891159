"""Functions and classes of a notebook's cells are shipped like those of a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CELLS = [
    """
import trio
import discoro_trio as discoro
""",
    """
class Point:
    def __init__(self, x):
        self.x = x

async def move(point, *, coro):
    assert isinstance(point, Point)
    return Point(point.x + 1)

def double(number):
    return 2 * number
""",
    """
async def main():
    async with discoro.open_cluster(servers=1):
        async with discoro.Computation([Point, move, double]).schedule() as computation:
            moved = await computation.run_result(move, Point(1))
            listed = await computation.run_result(double, 21)
            unlisted = await computation.run_result(lambda: "from a lambda")
            return isinstance(moved, Point), moved.x, listed, unlisted

print(trio.run(main))
""",
]


def notebook() -> dict[str, object]:
    """Give the notebook, in version 4.5 of its format."""
    cells: list[dict[str, object]] = [
        {"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
        for n, cell in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.spec("S42", "S44", "S46")
def test_functions_and_classes_of_a_notebook_are_shipped(tmp_path: Path) -> None:
    path = tmp_path / "sample.ipynb"
    path.write_text(json.dumps(notebook()), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", path],
        check=True,
        capture_output=True,
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_PLATFORM_DIRS": "1", "HOME": str(tmp_path)},
    )
    outputs = json.loads(path.read_text(encoding="utf-8"))["cells"][-1]["outputs"]
    assert ["".join(output.get("text", "")) for output in outputs] == ["(True, 2, 42, 'from a lambda')\n"]
