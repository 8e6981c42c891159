"""Patches that each take one behaviour away, and the tests that must fail for them.

A mark such as `spec("S77")` claims that a test fails without the behaviour of that row. This program checks the claim.
It applies one patch at a time to a copy of the project, runs the tests that the patch names there, and expects one of
them to fail. The patches are in `patches/*.toml`: one file for the rows of docs/conformance_rows.toml, one for mistakes
that a change could make.

Run as `python -m tests._project.patch_runs [rows] [mistakes] [ID…] [--tenth]`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import psutil

from . import conformance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).with_name("patches")
COLLECTIONS = ("rows", "mistakes", "simulation")
COPIED = ("discoro_trio", "tests", "examples", "docs", "benchmarks")
AT_ONCE = 2
ATTEMPTS = 3
"""How often a patch is tried before it counts as a survivor."""
SECONDS = 200.0
"""After which the tests of one patch are ended; a test that hangs has noticed the patch."""
RUN_VARIABLE = "DISCORO_TRIO_PATCH_RUN"
"""In the environment of everything that a run starts, so that what outlives it is found and killed."""


HELP = """
A patch survives if the tests that it names stay green though it takes a behaviour away. Add a test that fails with
it, or make one of its tests stricter. If the code has changed and a patch does not apply any more, change its text in
tests/_project/patches/ so that it takes away the same behaviour. Try it with `nox -s rows -- ID`."""
_DOES_NOT_APPLY, _SKIPPED = "does not apply", "all of its tests are skipped"


class Edit(NamedTuple):
    """A change of one file."""

    file: str
    old: str
    new: str


class Patch(NamedTuple):
    """One behaviour that is taken away."""

    id: str
    """The row, or the name of the mistake."""
    breaks: str
    """What does not hold any more."""
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    """The tests of which at least one must fail, as pytest names them, relative to `tests/`."""
    also: tuple[Edit, ...] = ()
    """Changes of further files, for a behaviour that has a second defence."""

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All of its changes."""
        return Edit(self.file, self.old, self.new), *self.also

    def fault(self, root: Path) -> str | None:
        """Return why it does not apply to a tree; None if it does."""
        for file, old, new in self.edits:
            path = root / file
            if not path.is_file():
                return f"there is no {file}"
            count = path.read_text(encoding="utf-8").count(old)
            if count != 1:
                return f"its old text occurs {count} times in {file}"
            if old == new:
                return "it changes nothing"
        return None

    def apply(self, root: Path) -> dict[Path, str]:
        """Patch a tree; return the files with the text that they had.

        Raises:
            ValueError: It does not apply.
        """
        if fault := self.fault(root):
            message = f"{self.id}: {fault}"
            raise ValueError(message)
        before = {root / file: (root / file).read_text(encoding="utf-8") for file, _, _ in self.edits}
        for file, old, new in self.edits:
            text = (root / file).read_text(encoding="utf-8")
            (root / file).write_text(text.replace(old, new), encoding="utf-8")
        return before


class Result(NamedTuple):
    """What came of one patch."""

    patch: Patch
    noticed: bool
    text: str
    """The test that failed, or what happened in its place."""
    seconds: float
    skipped: bool = False
    """Whether this machine cannot run its tests, such as those that need root."""

    @property
    def survived(self) -> bool:
        """Whether its tests ran, and none failed; or it does not apply."""
        return not self.noticed and not self.skipped

    @property
    def verdict(self) -> str:
        """The result in a word."""
        return "noticed" if self.noticed else "skipped" if self.skipped else "SURVIVED"


def read_patches(*collections: str) -> list[Patch]:
    """Read the patches of some files of `patches/`.

    Raises:
        ValueError: An id stands twice.
    """
    found: list[Patch] = []
    for name in collections:
        table = tomllib.loads((PATCHES / f"{name}.toml").read_text(encoding="utf-8"))
        found += [
            Patch(
                key,
                one["breaks"],
                one["file"],
                one["old"],
                one["new"],
                tuple(one["tests"]),
                tuple(Edit(**also) for also in one.get("also", ())),
            )
            for key, one in table.items()
        ]
    ids = [one.id for one in found]
    if twice := {one for one in ids if ids.count(one) > 1}:
        message = f"{', '.join(sorted(twice))}: two patches have this name"
        raise ValueError(message)
    return found


def rows_without_patch(patches: Iterable[Patch]) -> list[str]:
    """Return the rows that no patch takes away, in order; `S19-negative` is a second patch of S19."""
    known = {one.id.partition("-")[0] for one in patches}
    return [row for section in conformance.read_rows(conformance.ROWS) for row in section.rows if row not in known]


def copy_project(folder: Path) -> Path:
    """Copy what the tests need; return the copy."""
    root = folder / "project"
    root.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "_build", ".hypothesis")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, root / path.name)
    for hidden in (".ci", "changes"):
        if (ROOT / hidden).is_dir():
            shutil.copytree(ROOT / hidden, root / hidden)
    return root


class Copy:
    """A copy of the project in which patches are tried, one after another.

    Args:
        folder: Where to put it.
        seconds: How long the tests of a patch may take.
    """

    def __init__(self, folder: Path, *, seconds: float = SECONDS) -> None:
        self.root = copy_project(folder)
        self._seconds = seconds
        self._report = folder / "report.xml"
        self._clock = time.time() + 10.0

    def attempt(self, patch: Patch, *options: str) -> Result:
        """Apply a patch, run its tests with further options of pytest, and remove the patch."""
        began = time.monotonic()
        if fault := patch.fault(self.root):
            return Result(patch, noticed=False, text=f"{_DOES_NOT_APPLY}: {fault}", seconds=0.0)
        before = patch.apply(self.root)
        for path in before:
            self._touch(path)
        try:
            noticed, said = self._unusable(patch) or self._run(patch.tests, options)
        finally:
            for path, text in before.items():
                path.write_text(text, encoding="utf-8")
                self._touch(path)
        return Result(patch, noticed, said, time.monotonic() - began, skipped=said == _SKIPPED)

    def _touch(self, path: Path) -> None:
        """Give a file a time of its own, so that no bytecode of another version of it is used."""
        self._clock += 2.0
        os.utime(path, (self._clock, self._clock))

    def _unusable(self, patch: Patch) -> tuple[bool, str] | None:
        """Check that the patched module can still be imported: a syntax error proves nothing."""
        if not patch.file.endswith(".py") or not patch.file.startswith("discoro_trio/"):
            return None
        module = patch.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        try:
            done = self._python("-c", f"import {module}", seconds=self._seconds)
        except subprocess.TimeoutExpired:
            return None  # the machine is busy; the tests import it too
        if done.returncode:
            return False, f"the patched module cannot be imported: {done.stdout.splitlines()[-1]}"
        return None

    def _run(self, tests: Sequence[str], more: Sequence[str]) -> tuple[bool, str]:
        self._report.unlink(missing_ok=True)
        options = (*more, "-n0", "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={self._report}")
        try:
            done = self._python("-m", "pytest", *options, *(f"tests/{test}" for test in tests), seconds=self._seconds)
        except subprocess.TimeoutExpired:
            return True, f"its tests did not end within {self._seconds:g} s"
        if not self._report.exists():
            if done.returncode == 1:  # `faulthandler_timeout` ends a run without a report
                return True, "its tests hang"
            return False, f"pytest gives no report: {done.stdout[-300:]}"
        cases = list(ET.parse(self._report).iter("testcase"))  # noqa: S314 - pytest has just written it
        failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
        if failed:
            return True, str(failed[0].get("name"))
        ran = [case for case in cases if case.find("skipped") is None]
        if cases and not ran:
            return False, _SKIPPED
        return False, f"{len(ran)} tests stayed green" if ran else f"no test ran: {done.stdout[-300:]}"

    def _python(self, *command: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy, and end everything that it leaves."""
        token = secrets.token_hex(8)
        environment = {**os.environ, "PYTHONPATH": str(self.root), RUN_VARIABLE: token}
        try:
            return subprocess.run(
                [sys.executable, *command],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
            )
        finally:
            kill_all_of(token)


def kill_all_of(token: str) -> None:
    """Kill the processes that a run has started and left."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(RUN_VARIABLE) == token:
                process.kill()


def try_all(patches: Sequence[Patch], *, at_once: int = AT_ONCE) -> list[Result]:
    """Try patches, some at a time, and print each result.

    A patch that survives is tried again, alone: on a busy machine a test may miss what it is to see. It counts as a
    survivor only if it survives each time.
    """
    results = _try_each(patches, at_once)
    for attempt in range(2, ATTEMPTS + 1):
        again = [one.patch for one in results if one.survived and not one.text.startswith(_DOES_NOT_APPLY)]
        if again:
            print(f"attempt {attempt} of {ATTEMPTS} for those that survived:", flush=True)
            later = {one.patch.id: one for one in _try_each(again, 1)}
            results = [later.get(one.patch.id, one) for one in results]
    return results


def _try_each(patches: Sequence[Patch], at_once: int) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="patched-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(min(at_once, len(patches))):
            copies.put(Copy(Path(folder) / str(number)))

        def attempt(patch: Patch) -> Result:
            copy = copies.get()
            try:
                result = copy.attempt(patch)
            finally:
                copies.put(copy)
            print(f"{patch.id}: {result.verdict} in {result.seconds:.1f} s ({result.text})", flush=True)
            return result

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(attempt, patches))


def tenth(patches: Sequence[Patch], today: dt.date) -> list[Patch]:
    """Return the patches whose turn it is on a day: every tenth, each within ten days."""
    return [one for number, one in enumerate(patches) if number % 10 == today.toordinal() % 10]


def line_of(patch: Patch) -> int:
    """Return the line at which a patch begins."""
    text = (ROOT / patch.file).read_text(encoding="utf-8")
    return text[: text.find(patch.old)].count("\n") + 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the patches; 1 when a row has none, one does not apply, or one survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows, mistakes, or ids; default: all")
    parser.add_argument("--tenth", action="store_true", help="only every tenth, others on each day")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="how many run at a time (default: %(default)s)")
    options = parser.parse_args(arguments)
    collections = [name for name in options.names if name in COLLECTIONS] or COLLECTIONS
    patches = read_patches(*collections)
    missing = [] if options.tenth or "rows" not in collections else rows_without_patch(patches)
    if ids := [name for name in options.names if name not in COLLECTIONS]:
        if strange := set(ids) - {one.id for one in patches}:
            parser.error(f"no patch is named {', '.join(sorted(strange))}")
        patches, missing = [one for one in patches if one.id in ids], []
    if options.tenth:
        patches = tenth(patches, dt.datetime.now(tz=dt.UTC).date())
    began = time.monotonic()
    results = try_all(patches, at_once=options.at_once)
    survivors = [result for result in results if result.survived]
    noticed = sum(result.noticed for result in results)
    print(f"{len(results)} patches, {noticed} noticed, {len(survivors)} not, in {time.monotonic() - began:.0f} s")
    if skipped := [result.patch.id for result in results if result.skipped]:
        print(f"{len(skipped)} were not tried, as this machine skips their tests: {' '.join(skipped)}")
    for result in survivors:
        patch = result.patch
        print(f"  {patch.id} at {patch.file}:{line_of(patch)}: {patch.breaks} ({result.text})")
    if survivors:
        print(HELP)
    if missing:
        print(f"{len(missing)} rows have no patch: {' '.join(missing)}")
    return 1 if survivors or missing else 0


if __name__ == "__main__":
    sys.exit(main())
