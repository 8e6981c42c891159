"""Helper modules: modules of a client that its code names and that are not components.

If a helper module is loaded, the names that the code uses are sent with their current values. If only a statement
inside a function would import it, it is not loaded for that: its source is sent, and the server imports it.

This module finds the helper modules and their source.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._code_names import known_of
from ._module_origins import is_client_module, is_installed_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._by_value import Registry
    from ._code_names import Known

Source = tuple[str, str, bool]
"""Text, file name, and whether it is a package."""


def helper_modules(names: dict[str, Any], used: Known, registry: Registry) -> list[ModuleType]:
    """Return the loaded helper modules that code reaches: by globals, by import statements, and through one another.

    Args:
        names: The globals of the code.
        used: The names that the code uses.
        registry: The modules that the peer has completely.
    """
    waiting = [names[name] for name in used.globals if isinstance(names.get(name), ModuleType)]
    waiting += [sys.modules[name] for name in _imported(used, names) if name in sys.modules]
    found: dict[int, ModuleType] = {}
    while waiting:
        module = waiting.pop()
        if id(module) in found or not _is_helper(module, registry):
            continue
        found[id(module)] = module
        waiting += [value for name in used.all if isinstance(value := module.__dict__.get(name), ModuleType)]
    return [module for module in found.values() if module.__dict__ is not names]


def _is_helper(module: ModuleType, registry: Registry) -> bool:
    name = module.__name__
    if sys.modules.get(name) is not module or not is_client_module(name) or registry.has_module(name):
        return False
    return has_source(name)


def has_source(name: str) -> bool:
    """Return whether a module is not written in C."""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return not file.endswith(tuple(EXTENSION_SUFFIXES))


def _imported(used: Known, names: dict[str, Any]) -> Iterator[str]:
    """Yield the full names of all modules that import statements may mean, packages before their contents."""
    package = names.get("__package__") or str(names.get("__name__", "")).rpartition(".")[0]
    for level, module, taken in used.imports:
        if level and not package:
            continue
        try:
            name = importlib.util.resolve_name("." * level + module, package) if level else module
        except ImportError:
            continue
        parts = name.split(".")
        yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        yield from (f"{name}.{one}" for one in taken)


def sources_of(used: Known, names: dict[str, Any], registry: Registry) -> dict[str, Source]:
    """Return the sources of the client's modules that code imports and that are not loaded in this process."""
    found: dict[str, Source] = {}
    waiting = [name for name in _imported(used, names) if name not in sys.modules]
    while waiting:
        name = waiting.pop(0)
        if name in found or name in sys.builtin_module_names or registry.has_module(name):
            continue
        source = source_of(name)
        if source is None:
            continue
        found[name] = source
        text, file, is_package = source
        try:
            code = compile(text, file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue  # the server will report it
        inner = {"__name__": name, "__package__": name if is_package else name.rpartition(".")[0]}
        waiting += _imported(known_of(code), inner)
    return found


def source_of(name: str) -> Source | None:
    """Return the source of a module of the client, loaded or not; None if it is installed or has no source."""
    spec = _spec(name)
    if spec is None or spec.origin is None or is_installed_path(spec.origin):
        return None
    get = getattr(spec.loader, "get_source", None)
    try:
        text = get(name) if get is not None else None
    except (ImportError, OSError, SyntaxError, UnicodeError):
        return None
    return None if text is None else (text, spec.origin, spec.submodule_search_locations is not None)


def _spec(name: str) -> ModuleSpec | None:
    """Find a module without importing its parent packages."""
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        above = _spec(parent)
        path = list(above.submodule_search_locations or ()) if above is not None else []
        if not path:
            return None
    try:
        return PathFinder.find_spec(name, path)
    except (ImportError, AttributeError, ValueError):
        return None
