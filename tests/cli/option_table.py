"""All options of all programs, computed from their commands, and the tests that name them.

A test names the options whose effect it sees by `pytest.mark.option("discoro status --name")`. A name in capitals, as
in "ASKING --name", stands for the commands that are the keys of this table of the module.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import click

from discoro_trio._cli._discoro import discoro
from discoro_trio._cli._node import node as discoronode

if TYPE_CHECKING:
    from collections.abc import Iterator


def commands() -> dict[str, frozenset[str]]:
    """Return the long options of each command, by its name, such as "discoro launch ssh"."""
    return {name: frozenset(_long_options(command)) for name, command in _all_commands()}


def commands_with(option: str) -> list[str]:
    """Return the names of the commands that have an option, the two programs themselves left out."""
    return [name for name, options in commands().items() if option in options and " " in name]


def _all_commands() -> Iterator[tuple[str, click.Command]]:
    yield "discoronode", discoronode
    yield from _below("discoro", discoro)


def _below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from _below(f"{name} {part}", inner)


def _long_options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield next(name for name in parameter.opts if name.startswith("--"))


def named_by_tests() -> dict[str, list[str]]:
    """Return the options that tests name, each with its command, and the tests."""
    found: dict[str, list[str]] = {}
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "mark.option" not in source:
            continue
        tree = ast.parse(source)
        tables = dict(_tables(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for text in _marked(node):
                    table, _, option = text.partition(" ")
                    for name in [f"{command} {option}" for command in tables.get(table, ())] or [text]:
                        found.setdefault(name, []).append(f"{path.relative_to(folder)}::{node.name}")
    return found


def _tables(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            keys = [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]
            yield from ((target.id, keys) for target in node.targets if isinstance(target, ast.Name))


def _marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in test.decorator_list:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.option":
                yield from (ast.literal_eval(argument) for argument in node.args)
