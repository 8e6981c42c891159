"""What is in the wheel and the sdist: all that users need, and nothing of the project's own.

Run as `python -m tests._project.package DIST`: prints what is wrong with the archives in that folder, and ends with
status 1 if anything is.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

from .structure import PACKAGE, ROOT

_METADATA = re.compile(r"[^/]+\.dist-info/")


def expected_in_wheel(root: Path) -> set[str]:
    """Give the files of the package, of which a wheel must have each: modules, pages, units, the mark of types."""
    return _files_below(root, PACKAGE)


def expected_in_sdist(root: Path) -> set[str]:
    """Give the files that an sdist must have: those of the wheel, the examples, and what pip shows of the project."""
    return expected_in_wheel(root) | _files_below(root, "examples") | {"pyproject.toml", "README.md", "LICENSE"}


def _files_below(root: Path, folder: str) -> set[str]:
    paths = (path for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in paths}


def faults_of_wheel(names: Iterable[str], root: Path) -> list[str]:
    """Say what a wheel lacks, and what it has that belongs into no wheel."""
    files = {name for name in names if not _METADATA.match(name)}
    return _faults("wheel", files, expected_in_wheel(root), {f"{PACKAGE}/"})


def faults_of_sdist(names: Iterable[str], root: Path) -> list[str]:
    """Say what an sdist lacks, and which folders it has that belong into none."""
    files = {name.partition("/")[2] for name in names}
    folders = {f"{PACKAGE}/", "examples/"}
    return _faults("sdist", files, expected_in_sdist(root), folders)


def _faults(archive: str, found: set[str], expected: set[str], folders: set[str]) -> list[str]:
    strange = {name for name in found if "/" in name and not name.startswith(tuple(folders))}
    compiled = {name for name in found if PurePosixPath(name).suffix == ".pyc"}
    return [
        *(f"the {archive} lacks {name}" for name in sorted(expected - found)),
        *(f"the {archive} has {name}" for name in sorted(strange | compiled)),
    ]


def check(folder: Path) -> list[str]:
    """Say what is wrong with the wheel and the sdist in a folder."""
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as ball:
        in_wheel = archive.namelist()
        in_sdist = [member.name for member in ball.getmembers() if member.isfile()]
    return faults_of_wheel(in_wheel, ROOT) + faults_of_sdist(in_sdist, ROOT)


def main() -> int:
    """Print what is wrong; the status for the shell is 1 if anything is."""
    faults = check(Path(sys.argv[1]))
    print("\n".join(faults) if faults else "The wheel and the sdist have what they should.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
