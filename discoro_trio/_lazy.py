"""Names of a package that are imported at their first use.

A program does not load modules that it does not use. This matters most for the fork server: a server needs neither the
client nor the scheduler, and loading modules takes most of the start of a cluster.
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
        owners: The names, by the module below the package from which they are imported.
        modules: Modules below the package that are public names themselves: the module by that name.

    Returns:
        A function that imports a name and stores it in the package for the next use.
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
