"""Makes `joblib.parallel_config(backend="discoro")` work, without importing joblib before the program does.

joblib finds backends of others in a table of its module `joblib.parallel`. The entry is made when that module is
imported, or at once if it has been; the backend itself is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._import_hooks import when_imported


def install() -> None:
    """Enter the backend, now or when joblib is imported."""
    when_imported("joblib.parallel", _enter)


def _enter(module: Any) -> None:
    module.EXTERNAL_BACKENDS.setdefault("discoro", _register)


def _register() -> None:
    importlib.import_module(f"{__package__}._client._joblib").register()
