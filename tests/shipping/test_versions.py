"""Which packages a client's program imports, and how a node differs from it."""

from __future__ import annotations

import platform
import sys
from types import ModuleType

import pytest

from discoro_trio._shipping._versions import differences, imported_packages, installed_versions, python_version

pytestmark = pytest.mark.spec("B37")

PROGRAM = """
import json
import attrs
from hypothesis import given
import _pytest

def late():
    import msgspec.json
    def inner():
        from sklearn.utils import shuffle
    return [x for x in (1,) if __import__("os")]

class Job:
    def run(self):
        import psutil

import absent_package_of_this_test as absent
"""


def test_packages_are_found_that_the_program_imports_also_inside_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("program_of_this_test")
    monkeypatch.setitem(sys.modules, "program_of_this_test", module)
    monkeypatch.setitem(sys.modules, "absent_package_of_this_test", ModuleType("absent_package_of_this_test"))
    exec(PROGRAM, vars(module))  # noqa: S102 - a program of this test
    found = imported_packages()
    assert {"attrs", "hypothesis", "msgspec", "psutil", "pytest", "scikit-learn"} <= found.keys()
    assert not {"json", "absent_package_of_this_test", "discoro_trio", "program_of_this_test"} & found.keys()
    assert found == installed_versions(found)
    assert installed_versions(["no-such-package", "", "../x"]) == {}


@pytest.mark.parametrize(
    ("there", "python", "text"),
    [
        ({"a": "1", "b": "2"}, "3.11.7", ""),
        ({"a": "1.1", "b": "2"}, "3.11.7", "a 1.1 (here 1)"),
        ({"b": "2"}, "3.11.9", "Python 3.11.9 (here 3.11.7), a is not installed (here 1)"),
    ],
)
def test_a_difference_is_one_line(there: dict[str, str], python: str, text: str) -> None:
    assert differences({"a": "1", "b": "2"}, there, python=("3.11.7", python)) == text


def test_the_version_of_python_names_another_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert python_version() == platform.python_version()
    monkeypatch.setattr(platform, "python_implementation", lambda: "PyPy")
    assert python_version() == f"PyPy {platform.python_version()}"
