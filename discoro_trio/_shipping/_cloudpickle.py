"""All uses of cloudpickle's internals by this package: the reduction of a few special objects.

The public interface of cloudpickle has only whole picklers. The internals that are used here exist since version 3.0;
the tests of this module fail if they are removed or change.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import logging
import sys
import types
import typing
import weakref
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle

from . import _hosted_modules
from ._code_names import known_of
from ._module_origins import is_at, is_client_module

if TYPE_CHECKING:
    from collections.abc import Callable

LRU_CACHE: typing.Final = type(functools.lru_cache(lambda: None))

TYPES_WITHOUT_HOME: typing.Final = {
    id(value): (module, name)
    for module in ("_collections_abc", "types")
    for name, value in vars(sys.modules[module]).items()
    if isinstance(value, type) and not is_at(value, value.__module__, value.__qualname__)
}
"""Types of the interpreter that are not found under their own name, by id: module and name."""


def _reduce_method(method: types.MethodType) -> tuple[Any, ...]:
    name = method.__func__.__name__
    if getattr(method.__self__, name, None) == method:
        return getattr, (method.__self__, name)
    return types.MethodType, (method.__func__, method.__self__)


def _reduce_cached_property(cached: functools.cached_property[Any]) -> tuple[Any, ...]:
    # Before Python 3.12 it holds a lock.
    return _hosted_modules.cached_property, (cached.func, cached.attrname)


def _reduce_module(module: types.ModuleType) -> tuple[Any, ...]:
    if sys.modules.get(module.__name__) is module or module.__spec__ is not None:
        return _hosted_modules.module_named, (module.__name__,)
    # A module that a program made, and that is not in sys.modules.
    names = {name: value for name, value in module.__dict__.items() if name != "__builtins__"}
    return _hosted_modules.module_made, (module.__name__,), names


def _reduce_code(code: types.CodeType) -> tuple[Any, ...]:
    return _hosted_modules.code, (known_of(code).marshalled,)


def _has_home(variable: Any) -> bool:
    """Return whether a type variable, or a similar object, is found in an installed module."""
    module, name = variable.__module__, variable.__name__
    return isinstance(module, str) and not is_client_module(module) and is_at(variable, module, name)


def _reduce_typevar(variable: typing.TypeVar) -> Any:
    if _has_home(variable):
        return variable.__name__
    return cloudpickle._make_typevar, cloudpickle._decompose_typevar(variable)  # noqa: SLF001


def _reduce_new_type(made: Any) -> Any:
    if _has_home(made):
        return made.__name__
    return _hosted_modules.new_type, (made.__name__, made.__module__, made.__supertype__)


def _reduce_parameters(variable: typing.ParamSpec | typing.TypeVarTuple) -> Any:
    return variable.__name__ if _has_home(variable) else (type(variable), (variable.__name__,))


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    return _hosted_modules.bytes_of, (_buffer_of(view),)


def _buffer_of(view: memoryview) -> PickleBuffer | bytes:
    return PickleBuffer(view) if view.contiguous else view.tobytes()


def _reduce_weak_keys(mapping: weakref.WeakKeyDictionary[Any, Any]) -> tuple[Any, ...]:
    # `functools.singledispatch` keeps one.
    return weakref.WeakKeyDictionary, (dict(mapping),)


def _reduce_to_name(module: str, name: str) -> Callable[[Any], tuple[Any, ...]]:
    return lambda _: (_hosted_modules.object_named, (module, name))


_OURS: dict[type, Callable[[Any], Any]] = {
    # Objects that `dataclasses` compares by identity.
    type(dataclasses.MISSING): _reduce_to_name("dataclasses", "MISSING"),
    type(dataclasses.KW_ONLY): _reduce_to_name("dataclasses", "KW_ONLY"),
    functools.cached_property: _reduce_cached_property,
    memoryview: _reduce_memoryview,
    types.CodeType: _reduce_code,
    types.MethodType: _reduce_method,
    types.ModuleType: _reduce_module,
    _hosted_modules.HostedModule: _reduce_module,
    weakref.WeakKeyDictionary: _reduce_weak_keys,
    typing.NewType: _reduce_new_type,
    typing.ParamSpec: _reduce_parameters,
    typing.TypeVar: _reduce_typevar,
    typing.TypeVarTuple: _reduce_parameters,
}

# Loggers pickle by name by themselves.
_NOT_TAKEN = {logging.Logger, logging.RootLogger}


class _Reducers:
    """The reducers for special types, with the current content of the table of `copyreg`."""

    def __init__(self) -> None:
        theirs = cloudpickle.Pickler._dispatch_table  # noqa: SLF001
        self._fixed = {kind: reduce for kind, reduce in theirs.items() if kind not in _NOT_TAKEN} | _OURS
        self._size = -1
        self._merged: dict[type, Callable[[Any], Any]] = {}

    def current(self) -> dict[type, Callable[[Any], Any]]:
        if len(copyreg.dispatch_table) != self._size:
            self._size = len(copyreg.dispatch_table)
            self._merged = copyreg.dispatch_table | self._fixed
        return self._merged


table = _Reducers()
