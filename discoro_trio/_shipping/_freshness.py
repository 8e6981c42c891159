"""Detects whether the client's code has changed since it was sent: code may be edited during a computation.

When a notebook's cell runs again, a module is reloaded or a method is replaced, a name is bound again or a function
gets other code. This module detects that; the senders react to it.
"""

from __future__ import annotations

import functools
import weakref
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from ._class_parts import functions_in
from ._code_names import known_of
from ._helper_modules import helper_modules
from ._module_origins import is_client_module
from ._shipped import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType


class Watch:
    """The state of a function or class at one moment, with everything that it reaches by names in client modules."""

    __slots__ = ("_codes", "_uses")

    def __init__(self) -> None:
        self._codes: list[tuple[FunctionType, CodeType]] = []
        self._uses: list[tuple[Mapping[str, Any], str, object]] = []

    def changed(self) -> bool:
        """Return whether any part has been replaced. This runs for every call, so it is a plain loop."""
        for function, code in self._codes:
            if function.__code__ is not code:
                return True
        for names, name, value in self._uses:  # noqa: SIM110 - faster than any()
            if names.get(name) is not value:
                return True
        return False

    def add_function(self, function: FunctionType) -> Iterator[object]:
        """Record a function. Yield the objects that it reaches."""
        code = function.__code__
        self._codes.append((function, code))
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue
        yield from (function.__dict__.get("__wrapped__"), *(function.__defaults__ or ()))
        if not _is_of_client(function.__globals__.get("__name__")):
            return
        used = known_of(code)
        names = function.__globals__
        yield from self._add_names(names, used.globals)
        for module in helper_modules(names, used, NOTHING):
            yield from self._add_names(module.__dict__, used.all & module.__dict__.keys())

    def _add_names(self, names: dict[str, Any], wanted: Any) -> Iterator[object]:
        for name in wanted:
            if name in names and not name.startswith("__"):
                self._uses.append((names, name, names[name]))
                yield names[name]

    def add_class(self, made: type) -> Iterator[object]:
        """Record a class. Yield the objects that it reaches."""
        own = made.__dict__
        for name, value in own.items():
            for function in functions_in(value):
                if _is_of_client(function.__module__):
                    self._uses.append((own, name, value))
                    yield function
        yield from made.__bases__


def watch(obj: object) -> Watch:
    """Begin to watch a function, a class, or an object made from them."""
    made = Watch()
    waiting = [obj]
    seen: set[int] = set()
    while waiting:
        found = _unwrapped(waiting.pop())
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, FunctionType):
            waiting += made.add_function(found)
        elif isinstance(found, type) and _is_of_client(found.__module__):
            waiting += made.add_class(found)
    return made


def _unwrapped(obj: Any) -> object:
    while True:
        if isinstance(obj, functools.partial):
            obj = obj.func
        elif isinstance(obj, MethodType):
            obj = obj.__func__
        elif hasattr(obj, "cache_parameters") and not isinstance(obj, (FunctionType, type, ModuleType)):
            obj = obj.__wrapped__
        else:
            return obj


def _is_of_client(module: object) -> bool:
    return isinstance(module, str) and is_client_module(module)


_classes: weakref.WeakKeyDictionary[type, tuple[Watch, int]] = weakref.WeakKeyDictionary()


def class_version(made: type) -> int:
    """Return a number that grows when the methods of a class of this process are replaced or get other code."""
    known = _classes.get(made)
    if known is not None and not known[0].changed():
        return known[1]
    current = Watch()
    for value in current.add_class(made):
        if isinstance(value, FunctionType):
            current._codes.append((value, value.__code__))  # noqa: SLF001 - its own
    version = 0 if known is None else known[1] + 1
    _classes[made] = (current, version)
    return version
