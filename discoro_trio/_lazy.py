"""Names of a package that are imported when they are first asked for.

A program waits for nothing that it does not use. The servers' fork server waits for less still: a server needs neither
the client nor the scheduler, and the start of a cluster is the time in which these are loaded on both sides.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def importer(
    package: str, owners: Mapping[str, Iterable[str]], modules: Mapping[str, str] | None = None
) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package.

    Args:
        package: The package's name.
        owners: The names by the module, below the package, that they are imported from.
        modules: Modules below the package that have a name of their own there: the module by that name.

    Returns:
        A function that imports a name, and keeps it in the package for the next time.
    """
    homes = {name: f"{package}.{module}" for module, names in owners.items() for name in names}
    whole = {name: f"{package}.{module}" for name, module in (modules or {}).items()}

    def find(name: str) -> Any:
        if name in whole:
            value = importlib.import_module(whole[name])
        elif name in homes:
            value = getattr(importlib.import_module(homes[name]), name)
        else:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        setattr(sys.modules[package], name, value)
        return value

    return find
