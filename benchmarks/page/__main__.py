"""``python -m benchmarks.page [--check]``: write each region of the pages from `benchmarks/results`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks._results import from_json
from benchmarks._systems import ROOT
from benchmarks.page import _code, _figures, _growth, _readme, _savina
from benchmarks.page._regions import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks._results import Run

RESULTS = ROOT / "benchmarks" / "results"
README, PERFORMANCE = ROOT / "README.md", ROOT / "docs" / "performance.md"
GROWTH = ROOT / "docs" / "explanation" / "growth.md"
DRAWINGS = ROOT / "docs" / "_static" / "growth"

FIGURES: tuple[tuple[Path, str, str, Callable[[Run], str]], ...] = (
    (README, "figures", "figures.json", _readme.short),
    (PERFORMANCE, "conditions", "figures.json", _figures.conditions),
    (PERFORMANCE, "figures", "figures.json", _figures.ours),
    (PERFORMANCE, "peers", "figures.json", _figures.peers),
    (PERFORMANCE, "behind", "figures.json", _figures.behind),
    (PERFORMANCE, "missing", "figures.json", _figures.missing),
    (PERFORMANCE, "code", "figures.json", _code.programs),
    (PERFORMANCE, "network conditions", "network.json", _figures.conditions),
    (PERFORMANCE, "network", "network.json", _figures.ours),
)
"""The page, the name of the region, the file of results, and what writes it."""
OTHERS: tuple[tuple[Path, str, str, Callable[[dict[str, Any]], str]], ...] = (
    (PERFORMANCE, "savina conditions", "savina.json", _savina.conditions),
    (PERFORMANCE, "savina", "savina.json", _savina.workloads),
    (GROWTH, "conditions", "growth.json", _growth.conditions),
    (GROWTH, "curves", "growth.json", _growth.curves),
    (GROWTH, "limits", "growth.json", _growth.limits),
)
"""The same of results that are not those of figures."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The command line; None: this process's own.

    Returns:
        0; 1 if `--check` found a file that differs from the results.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; list the files that would change")
    options = parser.parse_args(arguments)
    changed = stale()
    for path, text in changed.items():
        print(path.relative_to(ROOT))
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(options.check and bool(changed))


def stale() -> dict[Path, str]:
    """Return the files that differ from the results, with the text that they should have."""
    return {path: text for path, text in made().items() if not path.exists() or path.read_text("utf-8") != text}


def made() -> dict[Path, str]:
    """Return each file that is made from the results, with its text."""
    files: dict[Path, str] = {}
    for page, name, results, render in FIGURES:
        _fill(files, page, name, render(from_json(written)) if (written := _read(results)) else None)
    for page, name, results, write in OTHERS:
        _fill(files, page, name, write(written) if (written := _read(results)) else None)
    drawings = _growth.drawings(written) if (written := _read("growth.json")) else {}
    return files | {DRAWINGS / name: text for name, text in drawings.items()}


def _fill(files: dict[Path, str], page: Path, name: str, text: str | None) -> None:
    """Put the text of a region into a page."""
    before = files.get(page) or page.read_text(encoding="utf-8")
    files[page] = replaced(before, name, text or "Not measured yet.")


def _read(name: str) -> dict[str, Any] | None:
    """Return results; None if there are none yet."""
    file = RESULTS / name
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
