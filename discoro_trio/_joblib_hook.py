"""Makes `joblib.parallel_config(backend="discoro")` work, without importing joblib before the program does.

joblib finds backends of others in a table of its module `joblib.parallel`. The entry is made when that module is
imported, or at once if it has been; the backend itself is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_TABLE_MODULE = "joblib.parallel"


def install() -> None:
    """Enter the backend, now or when joblib is imported."""
    module = sys.modules.get(_TABLE_MODULE)
    if module is not None:
        _enter(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _enter(module: Any) -> None:
    module.EXTERNAL_BACKENDS.setdefault("discoro", _register)


def _register() -> None:
    importlib.import_module(f"{__package__}._client._joblib").register()


class _Finder:
    """Finds joblib's module as all others would, once, and loads it with the entry."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Give the spec of that one module; None for all others."""
        if fullname != _TABLE_MODULE:
            return None
        sys.meta_path.remove(self)
        spec: ModuleSpec | None = importlib.import_module("importlib.util").find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)  # type: ignore[assignment] # without its base, whose import takes long
        return spec


class _Loader:
    """Loads a module as another loader does, and makes the entry in it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

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
        _enter(module)
