"""Distinguishes modules of the client's program from installed ones.

This module also owns the token that distinguishes modules of different clients with the same name. `_by_value`
(sending) and `_hosted_modules` (receiving) use both.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

STACK_GLOBAL = 0x93
"""The opcode without which a pickle names no class or function. (A number is found faster than one byte.)"""

_MEMOIZE, _BINGET, _LONG_BINGET = 0x94, 0x68, 0x6A

# SHORT_BINUNICODE, length, text, MEMOIZE, twice; non-ASCII names are left to the careful pickler.
_GLOBAL = re.compile(rb"\x8c(.)([\w.]+)\x94\x8c(.)([\w.]+)\x94\x93", re.DOTALL)

OUR_PACKAGE = __name__.partition(".")[0]

# `os` is the one module that every installation of Python keeps as a plain file of the standard library, or
# freezes together with the rest of it. (`sysconfig` would give the same folder, but takes a millisecond to import.)
_STDLIB = tuple({f"{Path(os.__file__).parent}{os.sep}", f"{Path(os.__file__).resolve().parent}{os.sep}"})
_INSTALLED_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class _Origin:
    """The token of the client whose modules this process has; a server uses the token of its client."""

    token: bytes = os.urandom(16)
    is_adopted: bool = False


def origin() -> bytes:
    """Return the token of the client whose modules this process has as its own."""
    return _Origin.token


def adopt_origin(token: bytes) -> None:
    """Treat a client's modules as this process's own; a server does this once for its computation."""
    _Origin.token = token
    _Origin.is_adopted = True


def hosts_modules_of(token: bytes) -> bool:
    """Return whether this process is a server that hosts the modules of a client."""
    return _Origin.is_adopted and token == _Origin.token


def is_client_module(name: str) -> bool:
    """Return whether a module is part of a client's program, and not installed.

    `__main__` always is. So are modules beside a script, and modules without a file: code typed at the prompt, a
    notebook's cells, modules made by `exec`. A module without a file inside an installed package belongs to that
    package (`six.moves`, for example).
    """
    if name in {"__main__", "__mp_main__"}:
        return True
    if name in sys.builtin_module_names or name.partition(".")[0] == OUR_PACKAGE:
        return False
    module = sys.modules.get(name)
    return module is None or not _is_installed(name, module)


def _is_installed(name: str, module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    if getattr(spec, "origin", None) in {"built-in", "frozen"}:
        return True
    path = getattr(module, "__file__", None) or _namespace_folder(module)
    if path is not None:
        return is_installed_path(path)
    parent = name.rpartition(".")[0]
    return bool(parent) and parent in sys.modules and not is_client_module(parent)


def is_installed_path(path: str) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return path.startswith(_STDLIB) or any(part in path for part in _INSTALLED_PARTS)


def _namespace_folder(module: ModuleType) -> str | None:
    """Return the folder of a namespace package, which has no file."""
    folders = list(getattr(module, "__path__", ()))
    return f"{folders[0]}{os.sep}" if folders else None


def _count_globals(pickled: bytes) -> int:
    """Count possible STACK_GLOBALs after a new string; -1 if there may be one after a memoized string."""
    count = 0
    at = pickled.find(STACK_GLOBAL)
    while at >= 0:
        if pickled[at - 1] == _MEMOIZE:
            count += 1
        elif pickled[at - 2] == _BINGET or pickled[at - 5] == _LONG_BINGET:
            return -1
        at = pickled.find(STACK_GLOBAL, at + 1)
    return count


class _Tokens:
    """The names of the loaded client modules in their pickled form, kept up to date."""

    def __init__(self) -> None:
        self._seen: tuple[int, str] = (0, "")
        self._modules: dict[str, int] = {}
        self._tokens: dict[str, bytes] = {}

    def current(self) -> dict[str, bytes]:
        # The number of modules and the last one detect nearly every change of a table of thousands in almost no time.
        # They miss a module that replaced another one of the same name; it is of the same kind as that one.
        seen = (len(sys.modules), next(reversed(sys.modules)))
        if seen != self._seen:
            self._seen = seen
            self._update()
        return self._tokens

    def _update(self) -> None:
        for name, module in list(sys.modules.items()):
            if self._modules.get(name) != id(module):
                self._modules[name] = id(module)
                self._classify(name)

    def _classify(self, name: str) -> None:
        encoded = name.encode(errors="replace")
        if is_client_module(name) and len(encoded) <= 0xFF:  # noqa: PLR2004 - the longest name of that opcode
            # SHORT_BINUNICODE, the length, the text: how protocol 4 and later write a name for the first time.
            self._tokens[name] = b"\x8c%c%b" % (len(encoded), encoded)
        else:
            self._tokens.pop(name, None)


_tokens = _Tokens()


def names_client_module(pickled: bytes) -> bool:
    """Return whether a pickle may name a client module; it may also only contain the name as text."""
    return STACK_GLOBAL in pickled and any(token in pickled for token in _tokens.current().values())


def globals_of(pickled: bytes) -> list[tuple[str, str]] | None:
    """Return module and name of the client's globals in a pickle, if that is possible without unpickling.

    It is possible if each STACK_GLOBAL follows two new strings. If a string was used before, it is not, and the
    result is None.
    """
    found = _GLOBAL.findall(pickled)
    if len(found) != _count_globals(pickled):
        return None
    client = _tokens.current()
    pairs: list[tuple[str, str]] = []
    for length, module, name_length, name in found:
        if len(module) != length[0] or len(name) != name_length[0]:
            return None
        if module.decode() in client:
            pairs.append((module.decode(), name.decode()))
    return pairs


def forget_modules() -> None:
    """Classify every module again: some were replaced by others of the same name."""
    _tokens.__init__()  # type: ignore[misc]


def is_at(obj: object, module: object, qualname: str) -> bool:
    """Return whether an object is found in a loaded module under a dotted name."""
    return resolve(module, qualname) is obj


def resolve(module: object, qualname: str) -> object:
    """Return the object with a dotted name in a loaded module, or None."""
    found: object = sys.modules.get(module) if isinstance(module, str) else None
    for part in qualname.split("."):
        if found is None or part == "<locals>":
            return None
        found = getattr(found, part, None)
    return found
