"""Runs the cells of a notebook in a kernel, as `jupyter execute` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

Output = dict[str, Any]


def execute(cells: Sequence[str], folder: Path, *, failing: Collection[int] = ()) -> list[list[Output]]:
    """Run cells in a new kernel; give the outputs of each.

    Args:
        cells: The source of each cell.
        folder: An empty folder for the notebook, the kernel's settings and its temporary files, in `tmp`.
        failing: The cells that may raise an error, by index.
    """
    made: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"cell-{index}",
            "metadata": {"tags": ["raises-exception"]} if index in failing else {},
            "outputs": [],
            "execution_count": None,
            "source": source.strip(),
        }
        for index, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path = folder / "sample.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", path],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HOME": str(folder),
            "IPYTHONDIR": str(folder),
            "JUPYTER_PLATFORM_DIRS": "1",
            "TMPDIR": str(folder / "tmp"),
        },
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    run = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for index, cell in enumerate(run):
        errors = [output["ename"] for output in cell["outputs"] if output["output_type"] == "error"]
        assert not errors or index in failing, (index, cell["outputs"])
    return [cell["outputs"] for cell in run]


def texts(outputs: Sequence[Output]) -> list[str]:
    """Give the text of each output of a cell; of an error, its type."""
    found = []
    for output in outputs:
        if output["output_type"] == "error":
            found.append(output["ename"])
        else:
            found.append("".join(output.get("text", output.get("data", {}).get("text/plain", ""))))
    return found


def html(output: Output) -> str:
    """Give the HTML of an output."""
    return "".join(output["data"]["text/html"])
