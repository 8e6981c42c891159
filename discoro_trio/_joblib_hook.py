"""Makes `joblib.parallel_config(backend="discoro")` work, without importing joblib before the program does.

joblib finds external backends in a table of its module `joblib.parallel`. The entry is made when that module is
imported, or at once if it is already imported. The backend itself is imported at its first use.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._import_hooks import when_imported


def install() -> None:
    """Register the backend, now or when joblib is imported."""
    when_imported("joblib.parallel", _enter)


def _enter(module: Any) -> None:
    module.EXTERNAL_BACKENDS.setdefault("discoro", _register)


def _register() -> None:
    importlib.import_module(f"{__package__}._client._joblib").register()
