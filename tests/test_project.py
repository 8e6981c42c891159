"""The project's own programs: the rows and their marks, the marks of size, the commands for people and CI."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from discoro_trio._wire._handshake import PACKAGE_VERSION
from tests._project import conformance, package, structure, totals

ROOT = Path(__file__).parents[1]
SPEC = "pytest.mark.spec"  # put together below, so that no reader of this file takes a sample for a mark


def test_the_rows_are_complete_and_in_order() -> None:
    rows = [row for section in conformance.read_rows(conformance.ROWS) for row in section.rows]
    last = {"S": 109, "B": 46, "F": 35}
    assert rows == [f"{letter}{number:02}" for letter in last for number in range(1, last[letter] + 1)]


def test_every_mark_names_a_row_that_exists() -> None:
    sections = conformance.read_rows(conformance.ROWS)
    assert not conformance.unknown(sections, conformance.read_marks(conformance.TESTS))


def test_a_row_in_two_sections_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.toml"
    section = '[[section]]\ntitle = "T"\n[section.rows]\nS01 = "x"\n'
    path.write_text(section * 2, encoding="utf-8")
    with pytest.raises(ValueError, match="S01 stand in two sections"):
        conformance.read_rows(path)


def write_test(folder: Path, source: str) -> None:
    (folder / "test_sample.py").write_text(source, encoding="utf-8")


def test_marks_are_found_on_functions_classes_modules_and_parameters(tmp_path: Path) -> None:
    source = f"""
pytestmark = {SPEC}("S01")

@{SPEC}("S02", "S03")
async def test_a(): ...

class TestB:
    @{SPEC.replace("spec", "fault")}("F01")
    def test_b(self): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks={SPEC}("S04"))])
def test_c(x): ...
"""
    write_test(tmp_path, source)
    assert conformance.read_marks(tmp_path) == {
        "S01": ["test_sample.py"],
        "S02": ["test_sample.py::test_a"],
        "S03": ["test_sample.py::test_a"],
        "F01": ["test_sample.py::TestB::test_b"],
        "S04": ["test_sample.py::test_c"],
    }


def test_a_mark_that_only_runs_can_tell_is_refused(tmp_path: Path) -> None:
    write_test(tmp_path, f"@{SPEC}(ROW)\ndef test_a(): ...\n")
    with pytest.raises(conformance.UnclearMarkError, match="test_a: name the rows as plain strings"):
        conformance.read_marks(tmp_path)


def test_the_table_shows_rows_with_and_without_a_test() -> None:
    sections = [conformance.Section("Parts", {"S01": "One.", "S02": "Two."})]
    marks = {"S01": ["test_a.py::test_x", "test_a.py::test_y"]}
    page = conformance.render(sections, marks)
    assert "1 of 2 rows have a test" in page
    assert "| S01 | One. | `test_a.py::test_x`<br>`test_a.py::test_y` |" in page
    assert "| S02 | Two. | none yet |" in page
    assert conformance.untested(sections, marks) == ["S02"]
    assert conformance.unknown(sections, {"S99": ["test_a.py::test_x"]}) == ["S99"]


def make_source(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_overloads_of_one_method_count_once(tmp_path: Path) -> None:
    make_source(tmp_path, "discoro_trio/a.py", "class C:\n" + "    def m(self): ...\n" * 21)
    assert [size.amount for size in structure.class_sizes(structure.read_sources(tmp_path))] == [1]


def test_imports_are_counted_by_layer_however_they_are_written(tmp_path: Path) -> None:
    make_source(tmp_path, "discoro_trio/_values.py", "import attrs\n")
    make_source(
        tmp_path,
        "discoro_trio/_link/_link.py",
        "from .._wire import Frame\nfrom .. import _wire\nfrom .._values import Location\n"
        "from ._other import x\nimport discoro_trio._wire._frames\n",
    )
    counts = structure.imports_by_layer(structure.read_sources(tmp_path))
    assert counts == {"leaves": {}, "_link": {"_wire": 3, "leaves": 1}}


def test_the_report_names_public_names_and_the_weight_of_tests(tmp_path: Path) -> None:
    make_source(tmp_path, "discoro_trio/__init__.py", '__all__ = ["b", "a"]\n')
    make_source(tmp_path, "tests/test_a.py", "# why\n\nassert 1\n")
    report = structure.report(structure.read_sources(tmp_path))
    assert "discoro_trio (2): a, b" in report
    assert "Lines of test for each line of code: 1.00" in report


def test_totals_add_up_every_report_of_a_folder(tmp_path: Path) -> None:
    suite = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'
    (tmp_path / "a.xml").write_text(suite.format(10, 1, 1, 2), encoding="utf-8")
    (tmp_path / "b.xml").write_text(suite.format(5, 0, 0, 0), encoding="utf-8")
    assert totals.add_up(tmp_path) == totals.Totals(passed=11, failed=2, skipped=2)


IN_WHEEL = ["discoro_trio/__init__.py", "discoro_trio/py.typed", "discoro_trio/monitor/static/index.html"]
OF_PROJECT = ["examples/a.py", "pyproject.toml", "README.md", "LICENSE"]


def make_package(root: Path) -> None:
    for name in (*IN_WHEEL, *OF_PROJECT, "tests/test_a.py", "discoro_trio/__pycache__/a.pyc"):
        make_source(root, name, "")


def test_archives_with_all_that_users_need_and_nothing_else_are_right(tmp_path: Path) -> None:
    make_package(tmp_path)
    metadata = "discoro_trio-0.1.dist-info/METADATA"
    assert not package.faults_of_wheel([*IN_WHEEL, metadata], tmp_path)
    assert not package.faults_of_sdist([f"discoro_trio-0.1/{name}" for name in (*IN_WHEEL, *OF_PROJECT)], tmp_path)


@pytest.mark.parametrize("name", IN_WHEEL)
def test_a_file_that_an_archive_lacks_is_named(name: str, tmp_path: Path) -> None:
    make_package(tmp_path)
    others = [other for other in IN_WHEEL if other != name]
    assert package.faults_of_wheel(others, tmp_path) == [f"the wheel lacks {name}"]
    in_sdist = [f"discoro_trio-0.1/{other}" for other in (*others, *OF_PROJECT)]
    assert package.faults_of_sdist(in_sdist, tmp_path) == [f"the sdist lacks {name}"]


@pytest.mark.parametrize("name", ["tests/test_a.py", "docs/index.md", "discoro_trio/__pycache__/a.pyc"])
def test_a_file_that_belongs_into_no_archive_is_named(name: str, tmp_path: Path) -> None:
    make_package(tmp_path)
    assert package.faults_of_wheel([*IN_WHEEL, name], tmp_path) == [f"the wheel has {name}"]
    in_sdist = [f"discoro_trio-0.1/{other}" for other in (*IN_WHEEL, *OF_PROJECT, name)]
    assert package.faults_of_sdist(in_sdist, tmp_path) == [f"the sdist has {name}"]


def test_ci_runs_the_second_command_of_the_readme_word_for_word() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.+?)\n```", readme)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) >= 2
    assert "\n" not in commands[1]
    assert commands[1] in script


def test_the_version_that_peers_are_told_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == PACKAGE_VERSION


def test_no_two_classes_have_one_name() -> None:
    """A name means one thing; `MapResults` stands twice because its types have a description of their own."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "discoro_trio").rglob("*.py")]
    names = [node.name.lstrip("_") for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name, count in Counter(names).items() if count > 1] == ["MapResults"]
