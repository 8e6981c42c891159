"""The versions that the tests last ran with fit the bounds that users get."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def test_the_constraints_name_each_dependency_once_and_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(name): version for name, _, version in pins}
    assert len(versions) == len(pins)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [
        Requirement(text) for text in (*project["dependencies"], *extras["monitor"], *extras["otel"], *extras["test"])
    ]
    wrong = [
        str(one)
        for one in needed
        if canonicalize_name(one.name) != canonicalize_name(project["name"])
        and not one.specifier.contains(versions.get(canonicalize_name(one.name), "0"))
    ]
    assert wrong == []
