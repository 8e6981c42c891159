"""Every parameter of every public call has a test of its effect, which `parameters.toml` names."""

from __future__ import annotations

import ast
import inspect
import tomllib
from functools import cache
from pathlib import Path

import pytest

import discoro_trio

from .test_public_names import INTERNAL, public_functions

HERE = Path(__file__).parent
TABLE: dict[str, dict[str, str]] = tomllib.loads((HERE / "parameters.toml").read_text(encoding="utf-8"))
MADE_BY_USERS = ("Computation", "Executor", "Location", "NodeAllocation", "ProcScheduler", "RCI")
"""The classes whose constructors users call."""


def calls() -> dict[str, set[str]]:
    """Give the parameters of each public call."""
    functions = {name: function for name, function in public_functions().items() if name not in INTERNAL}
    made = {name: getattr(discoro_trio, name) for name in MADE_BY_USERS}
    bound = {"Location.parse": discoro_trio.Location.parse}
    found = {}
    for name, call in {**functions, **made, **bound}.items():
        owner, _, member = name.partition(".")
        parameters = set(inspect.signature(call).parameters) - {"self", "cls"}
        if parameters:
            found[owner if owner == member else name] = parameters
    return found


@cache
def names_in(file: str) -> set[str]:
    """Give the names of the tests in a file."""
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("call", sorted(calls()))
def test_every_parameter_has_a_test_of_its_effect(call: str) -> None:
    named = [name for names in TABLE.get(call, {}) for name in names.split(", ")]
    assert sorted(named) == sorted(calls()[call]), "name a test of its effect in tests/parameters.toml"


def test_the_table_has_calls_and_tests_that_exist() -> None:
    assert TABLE.keys() <= calls().keys()
    for rows in TABLE.values():
        for test in rows.values():
            file, _, name = test.partition("::")
            assert (HERE / file).is_file(), test
            assert name in names_in(file), test
