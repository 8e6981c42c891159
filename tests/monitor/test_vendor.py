"""Files of others are what their README says, unchanged."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from discoro_trio import _monitor

FOLDERS = [Path(_monitor.__file__).parent / "static" / "vendor", Path(__file__).parents[1] / "browser" / "vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["pages", "tests"])
def test_the_hashes_are_those_of_the_files(folder: Path) -> None:
    rows = re.findall(r"^\| (\S+) \|.*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == {path.name for path in folder.iterdir() if path.suffix in {".js", ".css"}}
    for name, expected in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    assert list(folder.glob("LICENSE*"))
