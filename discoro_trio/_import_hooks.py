"""Calls a function when a module has been imported, without importing the module itself."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call a function with a module: now if it is imported, otherwise after its import; once for each hooked name."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
    elif not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, call))


class _Finder:
    """Finds one module through the other finders, once, and loads it with the call."""

    def __init__(self, name: str, call: Callable[[ModuleType], None]) -> None:
        self.name = name
        self._call = call

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of that one module; None for all others."""
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec: ModuleSpec | None = importlib.import_module("importlib.util").find_spec(fullname)
        if spec is not None and spec.loader is not None:
            loader: Any = _CallingLoader(spec.loader, self._call)  # without a base class, whose import takes long
            spec.loader = loader
        return spec


class _CallingLoader:
    """Loads a module with another loader, then makes the call."""

    def __init__(self, loader: Any, call: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._call = call

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Execute it."""
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._call(module)
