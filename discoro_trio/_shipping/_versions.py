"""The versions of Python and of installed packages, to compare a client with a node before a job fails there.

Modules of the client's program travel with its computation; installed packages do not, so they may differ.
"""

from __future__ import annotations

import dis
import platform
import sys
from importlib import metadata
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING

from ._module_origins import OUR_PACKAGE, is_client_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def python_version() -> str:
    """Return the version of Python, with its implementation unless that is CPython."""
    implementation = platform.python_implementation()
    version = platform.python_version()
    return version if implementation == "CPython" else f"{implementation} {version}"


def imported_packages() -> dict[str, str]:
    """Return the versions of the installed distributions that the client's modules import, also inside functions."""
    names: set[str] = set()
    for name, module in list(sys.modules.items()):
        if is_client_module(name):
            names.update(_imports_of(module))
    names -= {*sys.stdlib_module_names, OUR_PACKAGE}
    return installed_versions(_distributions(name for name in names if not _is_client_name(name)))


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions; those that are not installed are left out."""
    found = {}
    for name in sorted(distributions):
        try:
            found[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str], *, python: tuple[str, str]) -> str:
    """Describe how a node differs from this client, in one line; empty if it does not.

    Args:
        here: The versions of the packages that the client imports.
        there: The versions of these packages at the node, without those that are missing there.
        python: The versions of Python here and there.
    """
    found = [f"Python {python[1]} (here {python[0]})"] if python[0] != python[1] else []
    for name, version in here.items():
        if name not in there:
            found.append(f"{name} is not installed (here {version})")
        elif there[name] != version:
            found.append(f"{name} {there[name]} (here {version})")
    return ", ".join(found)


def _is_client_name(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and is_client_module(name)


def _imports_of(module: ModuleType) -> Iterator[str]:
    """Yield the top-level names of the modules that a module imports or whose objects it has."""
    for value in list(getattr(module, "__dict__", {}).values()):  # sys.modules can have None
        owner = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(owner, str):
            yield owner.partition(".")[0]
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield from _imports_in(value.__code__)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            for method in vars(value).values():
                if isinstance(method, FunctionType):
                    yield from _imports_in(method.__code__)


def _imports_in(code: CodeType) -> Iterator[str]:
    """Yield the top-level names of the modules that the code of a function imports when it runs."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            yield str(instruction.argval).partition(".")[0]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports_in(constant)


def _distributions(modules: Iterable[str]) -> set[str]:
    """Return the distributions of top-level modules. Most have the name of their module; a table has the others."""
    found, others = set(), []
    for name in filter(None, modules):
        try:
            metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError):
            others.append(name)
        else:
            found.add(name)
    if others:
        table = metadata.packages_distributions()
        found.update(*(table.get(name, ()) for name in others))
    return found
