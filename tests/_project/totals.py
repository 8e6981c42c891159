"""Adds up the reports of all test sessions to one closing line.

Run as `python -m tests._project.totals FOLDER`: reads the JUnit reports there and prints
`N passed, N failed, N skipped`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET


class Totals(NamedTuple):
    """The tests of some sessions."""

    passed: int
    failed: int
    """Errors of set-up and clean-up included."""
    skipped: int


def add_up(folder: Path) -> Totals:
    """Add up every report in a folder.

    Args:
        folder: Where pytest wrote its `*.xml`.

    Returns:
        The sums; zeros when there is no report.
    """
    passed = failed = skipped = 0
    for path in folder.glob("*.xml"):
        for suite in ET.parse(path).iter("testsuite"):  # noqa: S314 - our own pytest wrote it
            tests, failures, errors, left_out = (
                int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
            )
            passed += tests - failures - errors - left_out
            failed += failures + errors
            skipped += left_out
    return Totals(passed, failed, skipped)


def main(folder: str) -> None:
    """Print the closing line."""
    totals = add_up(Path(folder))
    print(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")


if __name__ == "__main__":
    main(sys.argv[1])
