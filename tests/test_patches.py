"""The patches that tests must notice: all of them apply, and the program that tries them knows both outcomes."""

from __future__ import annotations

import ast
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tests._project import conformance, patch_runs
from tests._project.patch_runs import COLLECTIONS, ROOT, Patch, read_patches

if TYPE_CHECKING:
    from pathlib import Path

PATCHES = read_patches(*COLLECTIONS)


def functions_of(path: Path) -> set[str]:
    """Name the functions of a test module, and those of its classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.id)
def test_a_patch_applies_and_names_tests_that_exist(patch: Patch) -> None:
    assert patch.fault(ROOT) is None
    assert patch.tests
    for test in patch.tests:
        path, _, function = test.partition("::")
        assert (ROOT / "tests" / path).exists(), test
        name = function.partition("[")[0].rpartition("::")[2]
        assert not name or name in functions_of(ROOT / "tests" / path), test


def test_patches_of_rows_name_rows_that_exist() -> None:
    rows = {row for section in conformance.read_rows(conformance.ROWS) for row in section.rows}
    assert {one.id.partition("-")[0] for one in read_patches("rows")} <= rows


def a_patch(**given: str) -> Patch:
    fields = {"id": "X", "breaks": "it", "file": "a.py", "old": "b = 1", "new": "b = 2", **given}
    return Patch(fields["id"], fields["breaks"], fields["file"], fields["old"], fields["new"], ("test_a.py",))


@pytest.mark.parametrize(
    ("patch", "fault"),
    [
        (a_patch(), None),
        (a_patch(old="b = 3"), "its old text occurs 0 times in a.py"),
        (a_patch(old="="), "its old text occurs 2 times in a.py"),
        (a_patch(file="c.py"), "there is no c.py"),
        (a_patch(new="b = 1"), "it changes nothing"),
    ],
)
def test_a_patch_that_does_not_apply_exactly_once_is_refused(patch: Patch, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("b = 1\nc = 2\n", encoding="utf-8")
    assert patch.fault(tmp_path) == fault
    if fault is None:
        assert patch.apply(tmp_path) == {tmp_path / "a.py": "b = 1\nc = 2\n"}
        assert (tmp_path / "a.py").read_text(encoding="utf-8") == "b = 2\nc = 2\n"
    else:
        with pytest.raises(ValueError, match=fault):
            patch.apply(tmp_path)


@pytest.mark.slow
def test_what_fails_is_noticed_what_stays_green_survives_and_the_copy_is_as_before(tmp_path: Path) -> None:
    copy = patch_runs.Copy(tmp_path)
    file, old = "discoro_trio/_wire/_credit.py", "messages = self._messages + count"
    before = (copy.root / file).read_text(encoding="utf-8")

    def attempt(new: str) -> patch_runs.Result:
        return copy.attempt(Patch("X", "it", file, old, new, ("wire/test_credit.py",)))

    survivor = attempt(f"{old} + 0")
    assert not survivor.noticed
    assert "stayed green" in survivor.text
    unusable = attempt("this is no python")
    assert not unusable.noticed
    assert "cannot be imported" in unusable.text
    noticed = attempt("messages = self._messages")
    assert noticed.noticed
    assert noticed.text.startswith("test_")
    assert (copy.root / file).read_text(encoding="utf-8") == before


def test_each_patch_has_its_day_within_ten() -> None:
    first = dt.date(2026, 1, 1)
    days = [patch_runs.tenth(PATCHES, first + dt.timedelta(days=day)) for day in range(10)]
    assert sorted(one.id for day in days for one in day) == sorted(one.id for one in PATCHES)


@pytest.mark.parametrize(
    ("texts", "survives", "tries"),
    [
        (["a test failed"], False, 1),
        (["1 tests stayed green", "a test failed"], False, 2),
        (["1 tests stayed green"] * 3, True, 3),
        (["does not apply: there is no a.py"], True, 1),
        (["all of its tests are skipped"], False, 1),
    ],
)
def test_a_survivor_survives_each_of_three_attempts(
    monkeypatch: pytest.MonkeyPatch, texts: list[str], tries: int, *, survives: bool
) -> None:
    left = list(texts)

    def attempt(_copy: object, patch: Patch) -> patch_runs.Result:
        text = left.pop(0)
        return patch_runs.Result(patch, "failed" in text, text, 0.0, skipped="skipped" in text)

    copy = type("CopyOfTests", (), {"__init__": lambda *_: None, "attempt": attempt})
    monkeypatch.setattr(patch_runs, "Copy", copy)
    (result,) = patch_runs.try_all([a_patch()])
    assert result.survived == survives
    assert len(texts) - len(left) == tries
