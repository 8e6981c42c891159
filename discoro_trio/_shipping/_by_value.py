"""The careful pickler: what belongs to a client's program goes by value, unless the peer has it as a component.

This module owns what is put into by-value pickles, and which globals of a function travel with it; what such
pickles call at the receiver is with `_hosted_modules`. It is imported at its first use only, for cloudpickle takes a
while.
"""

from __future__ import annotations

import os
import pickle
import sys
import typing
from logging import Logger
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from . import _hosted_modules
from ._cloudpickle import LRU_CACHE, TYPES_WITHOUT_HOME, reduce_class, table
from ._code_names import known_of
from ._module_origins import is_at, is_client_module, origin
from ._shipped import NATURAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._shipped import Reference

    class Registry(typing.Protocol):
        """What tells by what reference the peer finds an object."""

        def reference(self, obj: object) -> Reference | None: ...


_REFERABLE = (FunctionType, type, LRU_CACHE)
_PLAIN = (str, bytes, int, type(None), type(...))
_SMALL_INTS = range(-5, 257)
_FUNCTION_ATTRIBUTES = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    *(["__type_params__"] if sys.version_info >= (3, 12) else []),
)


class _Namespace:
    """Stands for the globals of functions in a pickle."""

    def __init__(self, name: str | None, owner: bytes | None, package: str | None = None) -> None:
        self.arguments = (name, owner, package)
        self.is_private = name is None
        self.is_installed = name is not None and owner is None

    @classmethod
    def of(cls, names: dict[str, Any]) -> _Namespace:
        name = names.get("__name__")
        if _hosted_modules.FOREIGN in names:
            return cls(name, names[_hosted_modules.FOREIGN], names.get("__package__"))
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is None:
            return cls(None, None)
        assert isinstance(name, str)  # noqa: S101 - it is a key of sys.modules
        # A copy of a module's globals, as attrs makes them for what it generates, is private.
        if module.__dict__ is not names:
            return cls(None, None)
        if is_client_module(name):
            return cls(name, origin(), names.get("__package__"))
        return cls(name, None)

    def __reduce__(self) -> tuple[object, ...]:
        return _hosted_modules.namespace, self.arguments


class ByValuePickler(pickle.Pickler):
    """Pickles functions and classes of client modules by value unless the peer has them.

    Args:
        file: What the pickle is written to.
        registry: Knows what the peer has.
        defining: The components that are being packed: globals that name them travel with the functions.
        buffer_callback: As for `pickle.Pickler`.

    Attributes:
        bound: What went by value and has a name of its own in a client module, where the receiver finds it again.
    """

    dispatch_table: dict[type, Callable[[Any], Any]]

    def __init__(
        self,
        file: Any,
        registry: Registry,
        *,
        defining: Iterable[object] = (),
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
    ) -> None:
        super().__init__(file, 5, buffer_callback=buffer_callback)
        self.dispatch_table = table.current()
        self.bound: list[Any] = []
        self._registry = registry
        self._defining = {id(obj) for obj in defining}
        self._namespaces: dict[int, _Namespace] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions and classes; leave all else to pickle and the table."""
        kind = type(obj)
        if kind is FunctionType:
            return self._by_reference(obj) or self._function(obj)
        if issubclass(kind, type):
            if id(obj) in TYPES_WITHOUT_HOME:
                return _hosted_modules.object_named, ("types", TYPES_WITHOUT_HOME[id(obj)])
            return self._by_reference(obj) or self._class(obj)
        if kind is LRU_CACHE:
            return self._by_reference(obj) or self._lru_cache(obj)
        return NotImplemented

    def _by_reference(self, obj: Any) -> str | tuple[Any, ...] | None:
        """Reduce to a name, if the peer finds it by one; None otherwise."""
        module = obj.__module__
        if isinstance(module, str) and not is_client_module(module) and is_at(obj, module, obj.__qualname__):
            return str(obj.__qualname__)
        reference = self._registry.reference(obj)
        if reference is None:
            return None
        return str(obj.__qualname__) if reference == NATURAL else (_hosted_modules.component, reference)

    def _bound(self, made: Any, names: dict[str, Any]) -> tuple[str, bytes, str] | None:
        """Tell in which module under which name something is that goes by value, if it has a name of its own.

        A decorated function is in the module of what was decorated; its globals are those of the decorator's.
        """
        name, module = made.__qualname__, made.__module__
        if "." in name or not isinstance(module, str):
            return None
        if not is_at(made, module, name):
            if names.get(name) is not made or not isinstance(names.get("__name__"), str):
                return None
            module = names["__name__"]
        if not is_client_module(module) or module not in sys.modules:
            return None
        self.bound.append(made)
        return module, sys.modules[module].__dict__.get(_hosted_modules.FOREIGN, origin()), name

    # --- functions

    def _function(self, made: FunctionType) -> tuple[Any, ...]:
        names = made.__globals__
        space = self._namespaces.get(id(names))
        if space is None:
            space = self._namespaces[id(names)] = _Namespace.of(names)
        bound = self._bound(made, names)
        cells = None if made.__closure__ is None else len(made.__closure__)
        state = {
            "__dict__": made.__dict__,
            "cells": [_contents(cell) for cell in made.__closure__ or ()],
            "globals": self._globals(made, space),
            "__annotations__": {key: self._annotation(value) for key, value in made.__annotations__.items()},
        }
        state.update({name: getattr(made, name) for name in _FUNCTION_ATTRIBUTES})
        return (
            _hosted_modules.function,
            (made.__code__, space, cells, bound),
            state,
            None,
            None,
            _hosted_modules.fill_function,
        )

    def _globals(self, made: FunctionType, space: _Namespace) -> tuple[Any, ...]:
        modules: dict[str, tuple[str, tuple[str, ...]]] = {}
        imports: dict[str, tuple[str, str]] = {}
        values: dict[str, object] = {}
        withheld: list[str] = []
        if not space.is_installed:
            used = known_of(made.__code__)
            home = getattr(sys.modules.get(made.__globals__.get("__name__", "")), "__dict__", {})
            for name in used.globals:
                if name not in made.__globals__:
                    continue
                value = made.__globals__[name]
                # What a copy of a module's globals has besides was put there for this function.
                private = space.is_private and (name not in home or home[name] is not value)
                if isinstance(value, ModuleType) and value.__name__ in sys.modules:
                    modules[name] = (value.__name__, _submodules(value, used.all))
                elif private or value is made or self._travels(value):
                    values[name] = value
                elif (found := importable_as(name, value)) is not None:
                    imports[name] = found
                else:
                    withheld.append(name)
        return modules, imports, values, tuple(withheld)

    def _travels(self, value: Any) -> bool:
        """Tell whether a global of a client module is one that the receiver may have."""
        if id(value) in self._defining or isinstance(value, Logger):
            return True
        return isinstance(value, _REFERABLE) and self._registry.reference(value) is not None

    def _annotation(self, value: Any) -> Any:
        """Give an annotation, as text if it names a class that need not travel just for that."""
        if self._is_portable(value):
            return value
        return value.__qualname__ if isinstance(value, type) else str(value)

    def _is_portable(self, value: Any) -> bool:
        parts = value if isinstance(value, list) else typing.get_args(value)
        if parts:
            return all(self._is_portable(part) for part in (typing.get_origin(value), *parts))
        if isinstance(value, type):
            return not is_client_module(value.__module__) or self._travels(value)
        return isinstance(value, _PLAIN) or type(value).__module__ in {"typing", "types"}

    def _lru_cache(self, cached: Any) -> tuple[Any, ...]:
        """Reduce a function with a cache; what is in the cache stays here."""
        parameters = cached.cache_parameters()
        bound = self._bound(cached, {})
        return _hosted_modules.lru_cached, (cached.__wrapped__, parameters["maxsize"], parameters["typed"], bound)

    # --- classes

    def _class(self, made: type) -> tuple[Any, ...]:
        make, args, attributes, _, _, setter = reduce_class(made)
        key = _hosted_modules.class_keys.get(made)
        if key is None:
            key = _hosted_modules.class_keys[made] = os.urandom(16)
        _hosted_modules.remember_class(key, made)
        new = (key, self._bound(made, {}), make, *args)
        return _hosted_modules.class_, new, (setter, attributes), None, None, _hosted_modules.fill_class


def importable_as(name: str, value: Any) -> tuple[str, str] | None:
    """Tell from which installed module a global comes, as far as that can be seen."""
    module: object = getattr(value, "__module__", None)
    qualname: object = getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        installed = not is_client_module(module) and is_at(value, module, qualname)
        return (module, qualname) if installed else None
    if _is_shared(value):
        return None
    # `from math import pi` leaves no trace but the object itself, under the same name in a module.
    for where, other in list(sys.modules.items()):
        if getattr(other, "__dict__", {}).get(name) is value and not is_client_module(where):
            return where, name
    return None


def _is_shared(value: object) -> bool:
    """Tell whether Python gives the same object to all who write it down, so that it says nothing of its origin."""
    if isinstance(value, str | bytes | tuple):
        return len(value) <= 1
    if isinstance(value, int):
        return _SMALL_INTS.start <= value < _SMALL_INTS.stop
    return value is None or value is ...


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _hosted_modules.NO_VALUE


def _submodules(package: ModuleType, names: frozenset[str]) -> tuple[str, ...]:
    """Give the loaded submodules that code reaches as attributes of a package (`import concurrent.futures`)."""
    if not hasattr(package, "__path__"):
        return ()
    prefix = f"{package.__name__}."
    below = [name for name in list(sys.modules) if name.startswith(prefix)]  # threads import meanwhile
    return tuple(name for name in below if names.issuperset(name[len(prefix) :].split(".")))
