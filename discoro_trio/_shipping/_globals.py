"""Decides which globals of a client's modules are sent with the code that names them, and reports the others.

A constant that is sent has a version: the receiver sets it once, and again only if the client has bound the name
again. So a value that a job sets in its module stays, and an edited cell of a notebook takes effect.

This module owns those versions, the globals that cannot be sent, and the messages about them. `_by_value` puts the
values into pickles.
"""

from __future__ import annotations

import itertools
import logging
import sys
import weakref
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from ._hosted_modules import VERSIONS
from ._module_origins import is_at, is_client_module

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

LARGEST: Final = 1 << 20
"""The largest constant that is sent with the code that names it, in bytes of its pickle."""

_SMALL_INTS = range(-5, 257)
_UNCHANGING = (str, bytes, int, float, complex, bool, type(None), range, type, FunctionType, ModuleType)

_next_version = itertools.count(1)
_versions: dict[tuple[int, str], tuple[object, int]] = {}
_refused: dict[tuple[int, str], tuple[Callable[[], object], str]] = {}
_said: set[tuple[str, str, str]] = set()


def version_of(names: dict[str, Any], name: str, value: object) -> int:
    """Return the version of a global; a new one if the name was bound again.

    A process that received a global from its client returns the version that came with it. For a value that was bound
    in the process itself it returns 0: such a value never replaces an existing one elsewhere.
    """
    came = names.get(VERSIONS)
    if came is not None:
        version, first = came.get(name, (0, None))
        return version if first is value else 0
    known = _versions.get((id(names), name))
    if known is None or known[0] is not value:
        known = _versions[id(names), name] = (value, next(_next_version))
    return known[1]


def refusal(names: dict[str, Any], name: str, value: object) -> str | None:
    """Return why a global is not sent, if that is already known."""
    known = _refused.get((id(names), name))
    return known[1] if known is not None and known[0]() is value else None


def refuse(names: dict[str, Any], name: str, value: object, reason: str) -> None:
    """Record that a global is not sent, and log that once."""
    _refused[id(names), name] = (_reference(value), reason)
    _say(
        names, name, "withheld", "the global %s of module %s does not travel to servers with the code that names it, "
        "and is a NameError there: %s", reason,
    )  # fmt: skip


def say_if_mutable(names: dict[str, Any], name: str, value: object) -> None:
    """Log once that a global is mutable, and that the servers have copies of it."""
    if not _is_mutable(value):
        return
    _say(
        names, name, "mutable", "the global %s of module %s travels to servers with the code that names it: each "
        "server has a copy of its own%s, and changes are not seen elsewhere. Pass what changes as an argument", "",
    )  # fmt: skip


def _say(names: dict[str, Any], name: str, kind: str, text: str, detail: str) -> None:
    module = str(names.get("__name__"))
    if (module, name, kind) not in _said:
        _said.add((module, name, kind))
        logger.warning(text, name, module, detail)


def _reference(value: object) -> Callable[[], object]:
    try:
        return weakref.ref(value)
    except TypeError:
        return lambda: value


def _is_mutable(value: object) -> bool:
    kind: Any = type(value)
    if isinstance(value, _UNCHANGING):
        return False
    if kind.__hash__ is None:
        return True
    # Objects that compare by identity and have their own attributes.
    return (
        kind.__hash__ is object.__hash__
        and is_client_module(kind.__module__)
        and bool(getattr(value, "__dict__", None))
    )


def importable_as(name: str, value: Any) -> tuple[str, str] | None:
    """Return the installed module from which a global comes, and its name there; None if unknown."""
    module: object = getattr(value, "__module__", None)
    qualname: object = getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        installed = not is_client_module(module) and is_at(value, module, qualname)
        return (module, qualname) if installed else None
    if _is_shared(value):
        return None
    # `from math import pi` leaves no trace except the object itself, under the same name in a module.
    for where, other in list(sys.modules.items()):
        if getattr(other, "__dict__", {}).get(name) is value and not is_client_module(where):
            return where, name
    return None


def _is_shared(value: object) -> bool:
    """Return whether all equal literals are the same object in Python, so that it does not show where it comes from."""
    if isinstance(value, str | bytes | tuple):
        return len(value) <= 1
    if isinstance(value, int):
        return _SMALL_INTS.start <= value < _SMALL_INTS.stop
    return value is None or value is ...
