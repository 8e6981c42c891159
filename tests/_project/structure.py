"""How the source is built: the longest files and functions, the largest classes, who imports whom.

The figures are for reading: nothing fails by them. This program reads the source and runs nothing.

Run as `python -m tests._project.structure`.
"""

from __future__ import annotations

import ast
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = "discoro_trio"
FOLDERS = (PACKAGE, "tests", "examples", "benchmarks", "docs")

SHOWN = 10
"""How many of the longest are printed."""

LEAVES = "leaves"
LAYERS = (
    LEAVES,
    "_wire",
    "_shipping",
    "_link",
    "_process",
    "_cluster",
    "_client",
    "launch",
    "_monitor",
    "testing",
    "_cli",
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Source(NamedTuple):
    """One file."""

    name: str
    """Its path from the root of the project."""
    text: str
    tree: ast.Module


class Size(NamedTuple):
    """The size of a file or function in lines, of a class in methods."""

    amount: int
    what: str


def read_sources(root: Path) -> list[Source]:
    """Read every Python file of the project.

    Args:
        root: The folder of the project.

    Returns:
        The files, sorted by name.
    """
    paths = chain(root.glob("*.py"), *((root / folder).rglob("*.py") for folder in FOLDERS))
    sources = []
    for path in sorted(paths):
        text = path.read_text(encoding="utf-8")
        sources.append(Source(path.relative_to(root).as_posix(), text, ast.parse(text, filename=str(path))))
    return sources


def file_sizes(sources: list[Source]) -> list[Size]:
    """Return the lines of each file, the longest first."""
    return sorted((Size(len(source.text.splitlines()), source.name) for source in sources), reverse=True)


def function_sizes(sources: list[Source]) -> list[Size]:
    """Return the lines of each function, the longest first; decorators do not count."""
    sizes = [
        Size((node.end_lineno or node.lineno) - node.lineno + 1, f"{source.name}:{node.lineno} {node.name}")
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, FUNCTIONS)
    ]
    return sorted(sizes, reverse=True)


def class_sizes(sources: list[Source]) -> list[Size]:
    """Return the methods of each class, the largest first; the overloads of one name count once."""
    sizes = [
        Size(
            len({child.name for child in node.body if isinstance(child, FUNCTIONS)}),
            f"{source.name}:{node.lineno} {node.name}",
        )
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    ]
    return sorted(sizes, reverse=True)


def public_names(sources: list[Source]) -> dict[str, list[str]]:
    """Return `__all__` of every public package that has one."""
    found = {}
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
            ):
                module = source.name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
                found[module] = sorted(ast.literal_eval(node.value))
    return found


def imports_by_layer(sources: list[Source]) -> dict[str, Counter[str]]:
    """Count the imports between the layers of the package, those for annotations alone too."""
    counts: dict[str, Counter[str]] = {}
    for source in sources:
        parts = source.name.removesuffix(".py").split("/")
        if parts[0] != PACKAGE or parts[1:] in (["__init__"], ["__main__"]):
            continue
        importer = layer_of(parts)
        imported = (layer_of(module) for module in _imported_modules(source.tree, parts))
        counts.setdefault(importer, Counter()).update(layer for layer in imported if layer != importer)
    return counts


def layer_of(parts: list[str]) -> str:
    """Return the layer that a module of the package belongs to."""
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else LEAVES


def _imported_modules(tree: ast.Module, importer: list[str]) -> list[list[str]]:
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importer[: len(importer) - node.level] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            # `from .. import wire` names the module after `import`, not before.
            modules += [[*module, alias.name] for alias in node.names] if len(module) == 1 else [module]
    return [module for module in modules if module[:1] == [PACKAGE]]


def code_lines(text: str) -> int:
    """Count the lines that are neither empty nor a comment alone."""
    return sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def tests_per_line(sources: list[Source]) -> float:
    """Return the lines of test for each line of the package."""
    package = sum(code_lines(source.text) for source in sources if source.name.startswith(f"{PACKAGE}/"))
    tests = sum(
        code_lines(source.text)
        for source in sources
        if source.name.startswith("tests/") and not source.name.startswith("tests/_project/")
    )
    return tests / max(package, 1)


def report(sources: list[Source]) -> str:
    """Write all figures as text."""
    lines = [*_sizes("Longest files, lines", file_sizes(sources))]
    lines += _sizes("Longest functions, lines", function_sizes(sources))
    lines += _sizes("Largest classes, methods", class_sizes(sources))
    lines.append("Imports by layer")
    counts = imports_by_layer(sources)
    for layer in LAYERS:
        if layer in counts:
            imported = ", ".join(f"{other} {counts[layer][other]}" for other in LAYERS if counts[layer][other])
            lines.append(f"  {layer:8} {imported or 'no other layer'}")
    lines.append("Public names")
    for module, names in public_names(sources).items():
        if not any(part.startswith("_") for part in module.split(".")) and module.startswith(PACKAGE):
            lines.append(f"  {module} ({len(names)}): {', '.join(names)}")
    lines.append(f"Lines of test for each line of code: {tests_per_line(sources):.2f}")
    return "\n".join(lines)


def _sizes(title: str, sizes: list[Size]) -> list[str]:
    return [title, *(f"  {size.amount:4} {size.what}" for size in sizes[:SHOWN])]


if __name__ == "__main__":
    print(report(read_sources(ROOT)))
