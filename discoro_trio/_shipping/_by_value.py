"""The careful pickler: objects of a client's program are pickled by value, unless the peer has them as components.

This module decides what by-value pickles contain; `_hosted_modules` and `_hosted_classes` have the functions that such
pickles call at the receiver. It is imported only at its first use, because importing cloudpickle is slow.
"""

from __future__ import annotations

import enum
import inspect
import os
import pickle
import re
import sys
import threading
import typing
from contextvars import Context, ContextVar
from logging import Logger
from types import BuiltinFunctionType, CellType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import TYPE_CHECKING, Any

import msgspec

from . import _hosted_classes, _hosted_modules
from ._class_parts import ClassParts, functions_of, member_arguments, struct_taken_apart, taken_apart
from ._cloudpickle import LRU_CACHE, TYPES_WITHOUT_HOME, table
from ._code_names import known_of
from ._exception_parts import HEAP_TYPE, base_in_c, is_plain_error, needs_care, reduce_error
from ._freshness import class_version
from ._globals import LARGEST, importable_as, refusal, refuse, say_if_mutable, version_of
from ._helper_modules import has_source, helper_modules, sources_of
from ._module_origins import is_at, is_client_module, origin
from ._shipped import NATURAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ._code_names import Known
    from ._shipped import Reference

    class Registry(typing.Protocol):
        """Returns the reference by which the peer finds an object."""

        @property
        def automatic(self) -> bool: ...
        def reference(self, obj: object) -> Reference | None: ...
        def has_module(self, name: str) -> bool: ...


_REFERABLE = (FunctionType, type, LRU_CACHE)
_PLAIN = (str, bytes, int, type(None), type(...))
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type(...))
_OF_THE_MODULE = frozenset({
    "__builtins__", "__cached__", "__dict__", "__doc__", "__file__", "__loader__", "__name__", "__package__",
    "__path__", "__spec__",
})  # fmt: skip
_FUNCTION_ATTRIBUTES = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    *(["__type_params__"] if sys.version_info >= (3, 12) else []),
)
# Objects that belong to their process: if a global or class attribute is one, the receiver makes a new one.
_OWN = {type(threading.Lock()): "lock", type(threading.RLock()): "rlock", threading.local: "local"}
_TYPING = {"typing", "typing_extensions"}
_IDENTIFIER = re.compile(r"[^\W\d]\w*")

_DEEPEST = 10
"""Functions that are reached through a chain of this many globals are completed at the end of a pickle."""


class _Namespace:
    """Represents the globals of functions in a pickle."""

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
        # A copy of a module's globals, as attrs makes for generated methods, is private.
        if module.__dict__ is not names:
            return cls(None, None)
        if is_client_module(name):
            return cls(name, origin(), names.get("__package__"))
        return cls(name, None)

    def __reduce__(self) -> tuple[object, ...]:
        return _hosted_modules.namespace, self.arguments


class _Mark:
    """Marks the begin and the end of a global in a pickle."""

    def __init__(self, names: dict[str, Any], name: str, value: object, *, begins: bool) -> None:
        self.names = names
        self.name = name
        self.value = value
        self.begins = begins

    @property
    def is_constant(self) -> bool:
        return not isinstance(self.value, _REFERABLE)


class _Meter:
    """The output of a pickler; counts the bytes of the constants that are being written."""

    def __init__(self, file: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> None:
        self.inside: list[tuple[_Mark, int]] = []
        self._file = file
        self._callback = buffer_callback
        self._written = 0

    def write(self, chunk: Any) -> None:
        self._count(len(chunk))
        self._file.write(chunk)

    def take(self, buffer: pickle.PickleBuffer) -> Any:
        assert self._callback is not None  # noqa: S101 - the pickler uses this method only if there is a callback
        kept = self._callback(buffer)
        if not kept:
            self._count(memoryview(buffer).nbytes)
        return kept

    def pass_(self, mark: _Mark) -> None:
        if mark.begins:
            self.inside.append((mark, self._written))
        else:
            self._count(0)
            self.inside.pop()

    def _count(self, size: int) -> None:
        self._written += size
        if self.inside:
            mark, begun = self.inside[-1]
            if mark.is_constant and self._written - begun > LARGEST:
                text = f"it takes more than {LARGEST >> 20} MiB"
                raise _TooLargeError(text)


class _TooLargeError(Exception):
    """A constant is too large to travel with a function."""


class _TooDeepError(Exception):
    """A function must be completed later than at its first reference."""


class _Fill:
    """Represents, in a pickle, the second half of making a function or a class."""

    def __init__(self, made: Any) -> None:
        self.made = made


class _PostponedHalves:
    """Represents, at the end of a pickle, the second halves that were postponed."""


class _Whole:
    """Represents the pickled object and its tail."""

    def __init__(self, obj: object) -> None:
        self.obj = obj


class ByValuePickler(pickle.Pickler):
    """Pickles functions and classes of client modules by value unless the peer has them; see `pickle_carefully`.

    Args:
        file: The output of the pickle.
        registry: The objects and modules that the peer has.
        defining: The components that are being packed: globals that refer to them are sent with the functions.
        later: Whether deeply nested functions are completed at the end.
        buffer_callback: As in `pickle.Pickler`.

    Attributes:
        bound: The objects sent by value that have their own name in a client module, where the receiver finds them.
    """

    dispatch_table: dict[type, Callable[[Any], Any]]

    def __init__(
        self,
        file: Any,
        registry: Registry,
        *,
        defining: Iterable[object] = (),
        later: bool = False,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
    ) -> None:
        self._meter = _Meter(file, buffer_callback)
        super().__init__(self._meter, 5, buffer_callback=None if buffer_callback is None else self._meter.take)
        self.dispatch_table = table.current()
        self.bound: list[Any] = []
        self._registry = registry
        self._defining = {id(obj) for obj in defining}
        self._namespaces: dict[int, _Namespace] = {}
        self._later = later
        self._put_off: list[Any] = []
        self._skeletons: set[int] = set()
        self._members: dict[int, tuple[type, str]] = {}
        self._own: set[int] = set()
        self._aliases: set[int] = set()
        self._owners: dict[int, type] = {}
        self._cells: set[int] = set()
        self._carried: list[_Mark] = []

    def dump(self, obj: object) -> None:
        """Write the pickle of an object."""
        super().dump(_Whole(obj) if self._later else obj)

    def refuse_innermost(self, error: Exception) -> bool:
        """Withhold the global that could not be pickled. Return False if the failure was not in a global."""
        if not self._meter.inside:
            return False
        mark, _ = self._meter.inside[-1]
        if isinstance(error, _TooLargeError):
            reason = f"{error}. Pass it as an argument, or share it by computation.share"
        else:
            advice = (
                "Move it into a module, and list that module in Computation(components)"
                if isinstance(mark.value, type)
                else "Make it at the server: in the job, or in a server_setup function"
            )
            reason = f"{type(error).__name__}: {error}. {advice}"
        refuse(mark.names, mark.name, mark.value, reason)
        return True

    def say_what_can_change(self) -> None:
        """Log, once for each mutable global in this pickle, that servers have copies of it."""
        for mark in self._carried:
            say_if_mutable(mark.names, mark.name, mark.value)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions and classes; leave everything else to pickle and the table."""
        kind = type(obj)
        if kind is FunctionType:
            return self._by_reference(obj) or self._function(obj)
        if issubclass(kind, type):
            if id(obj) in TYPES_WITHOUT_HOME:
                return _hosted_modules.object_named, TYPES_WITHOUT_HOME[id(obj)]
            return self._by_reference(obj) or self._class(obj)
        if kind is LRU_CACHE:
            return self._by_reference(obj) or self._lru_cache(obj)
        own = _REDUCERS.get(kind)
        return self._other(obj) if own is None else own(self, obj)

    def _by_reference(self, obj: Any) -> str | tuple[Any, ...] | None:
        """Reduce an object to a name, if the peer finds it by a name; None otherwise."""
        module = obj.__module__
        if isinstance(module, str) and not is_client_module(module) and is_at(obj, module, obj.__qualname__):
            return str(obj.__qualname__)
        reference = self._registry.reference(obj)
        if reference is None:
            return None
        if reference == NATURAL:
            return str(obj.__qualname__)
        digest, index = reference
        return _hosted_modules.component, (bytes.fromhex(digest), index)

    def _bound(self, made: Any, names: dict[str, Any]) -> tuple[str, bytes, str] | None:
        """Return the module and the name of an object that is sent by value, if it has a name of its own.

        A decorated function is in the module of the original function; its globals are those of the decorator's module.
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

    def _is_deep(self) -> bool:
        if len(self._meter.inside) <= _DEEPEST:
            return False
        if not self._later:
            raise _TooDeepError
        return True

    # --- parts of a pickle

    def _whole(self, whole: _Whole) -> tuple[Any, ...]:
        return _hosted_modules.whole, (whole.obj, _PostponedHalves())

    def _tail(self, _tail: _PostponedHalves) -> tuple[Any, ...]:
        fills = [_Fill(made) for made in self._put_off]
        self._put_off = []
        return _hosted_modules.whole, (None, fills, _PostponedHalves()) if fills else (None,)

    def _fill(self, fill: _Fill) -> tuple[Any, ...]:
        made = fill.made
        if isinstance(made, type):
            return _hosted_classes.fill_class, (made, self._class_state(made, _parts_of(made)[0]))
        return _hosted_modules.fill_function, (made, self._function_state(made))

    def _mark(self, mark: _Mark) -> tuple[Any, ...]:
        self._meter.pass_(mark)
        return bool, ()

    # --- functions

    def _space(self, names: dict[str, Any]) -> _Namespace:
        space = self._namespaces.get(id(names))
        if space is None:
            space = self._namespaces[id(names)] = _Namespace.of(names)
        return space

    def _function(self, made: FunctionType) -> tuple[Any, ...]:
        names = made.__globals__
        # The cells are sent empty, because their contents may refer to the function.
        self._cells |= {id(cell) for cell in made.__closure__ or ()}
        new = (made.__code__, self._space(names), made.__closure__, self._bound(made, names))
        if id(made) in self._skeletons:
            return _hosted_modules.function, new
        if self._is_deep():
            self._put_off.append(made)
            return _hosted_modules.function, new
        return _hosted_modules.function, new, self._function_state(made), None, None, _hosted_modules.fill_function

    def _function_state(self, made: FunctionType) -> dict[str, Any]:
        used = known_of(made.__code__)
        state = {
            "__dict__": made.__dict__,
            "cells": [_contents(cell) for cell in made.__closure__ or ()],
            "globals": self._globals(made, used),
            "__annotations__": {key: self._annotation(value) for key, value in made.__annotations__.items()},
        }
        enclosed = [cell for cell in state["cells"] if isinstance(cell, ModuleType)]
        if enclosed:
            state["submodules"] = [name for module in enclosed for name in _submodules(module, used.all)]
        if used.imports and self._registry.automatic:
            sources = sources_of(used, made.__globals__, self._registry)
            if sources:
                state["sources"] = (origin(), sources)
        state.update({name: getattr(made, name) for name in _FUNCTION_ATTRIBUTES})
        return state

    def _cell(self, cell: CellType) -> tuple[Any, ...]:
        if id(cell) in self._cells:
            return _hosted_modules.cell, ()
        return _hosted_modules.cell, (), _contents(cell), None, None, _hosted_modules.fill_cell

    def _globals(self, made: FunctionType, used: Known) -> list[tuple[Any, ...]]:
        """Return the globals that are sent with a function: of its own module, and of helper modules that it names."""
        names = made.__globals__
        space = self._space(names)
        if space.is_installed:
            return []
        found = [self._names(space, names, used.globals, used, made)]
        if self._registry.automatic:
            for module in helper_modules(names, used, self._registry):
                inner = module.__dict__
                found.append(self._names(self._space(inner), inner, sorted(used.all & inner.keys()), used))
        return found

    def _names(
        self, space: _Namespace, names: dict[str, Any], wanted: Iterable[str], used: Known, made: object = None
    ) -> tuple[Any, ...]:
        """Decide which of the names in a module are sent, and how."""
        modules: dict[str, tuple[str, tuple[str, ...]]] = {}
        imports: dict[str, tuple[str, str]] = {}
        values: list[tuple[Any, ...]] = []
        withheld: dict[str, str] = {}
        home = getattr(sys.modules.get(names.get("__name__", "")), "__dict__", {})
        for name in wanted:
            if name not in names:
                continue
            value = names[name]
            if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
                modules[name] = (value.__name__, _submodules(value, used.all))
            # Other items in a copy of a module's globals were put there for this function.
            elif space.is_private and (name not in home or home[name] is not value):
                values.append((name, None, value))
            elif value is made or self._travels(value):
                values.append((name, version_of(names, name, value), value))
            elif type(value) not in _ATOMS and (found := importable_as(name, value)) is not None:
                imports[name] = found
            elif not self._registry.automatic or name in _OF_THE_MODULE:
                withheld[name] = ""
            elif (reason := refusal(names, name, value)) is not None:
                withheld[name] = reason
            else:
                begin, end = (_Mark(names, name, value, begins=begins) for begins in (True, False))
                self._carried.append(begin)
                values.append((name, version_of(names, name, value), begin, value, end))
        return space, modules, imports, values, withheld

    def _travels(self, value: Any) -> bool:
        """Return whether a global of a client module may be sent to the receiver in any case."""
        if id(value) in self._defining or isinstance(value, Logger):
            return True
        return isinstance(value, _REFERABLE) and self._registry.reference(value) is not None

    def _annotation(self, value: Any) -> Any:
        """Return an annotation; as text, if it names a class that need not be sent only for that."""
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
        """Reduce a function with a cache, without the contents of the cache."""
        parameters = cached.cache_parameters()
        bound = self._bound(cached, {})
        return _hosted_modules.lru_cached, (cached.__wrapped__, parameters["maxsize"], parameters["typed"], bound)

    # --- classes

    def _class(self, made: type) -> tuple[Any, ...]:
        if not made.__flags__ & HEAP_TYPE:
            text = f"{made.__qualname__} is a class in C that is not found in {made.__module__}"
            raise pickle.PicklingError(text)
        key = _hosted_classes.class_keys.get(made)
        if key is None:
            key = _hosted_classes.class_keys[made] = os.urandom(16)
        _hosted_classes.remember_class(key, made)
        parts, options = _parts_of(made)
        self._skeletons |= {id(function) for function in functions_of(parts)}
        arguments = (type(made), made.__name__, made.__bases__, parts.namespace)
        version = _hosted_classes.versions.get(made)
        head = (key, class_version(made) if version is None else version, self._bound(made, {}))
        new: tuple[Any, ...] = (*head, _hosted_classes.make_class, *arguments)
        if options is not None:
            namespace = parts.namespace | parts.functions
            new = (*head, _hosted_classes.make_struct, *arguments[:3], namespace, options)
        if self._is_deep():
            self._put_off.append(made)
            return _hosted_classes.class_, new
        return _hosted_classes.class_, new, self._class_state(made, parts), None, None, _hosted_classes.fill_class

    def _class_state(self, made: type, parts: ClassParts) -> tuple[Any, ...]:
        """Return the state that completes a class, in the order that `_class_parts` describes."""
        if isinstance(made, enum.EnumMeta):
            members: Mapping[str, object] = made.__members__
            for name, member in members.items():
                self._members.setdefault(id(member), (made, name))
        functions = [one for one in functions_of(parts) if self._by_reference(one) is None]
        attributes = parts.attributes
        self._own |= {id(value) for value in attributes.values() if type(value) in _OWN}
        self._owners |= {id(value): made for value in attributes.values()}
        plain = {name: value for name, value in attributes.items() if type(value) in _OWN or isinstance(value, _ATOMS)}
        # The single instance that its own constructor looks for does not exist yet.
        plain |= {name: None for name, value in attributes.items() if made in type(value).__mro__}
        others = [
            _Attributes(made, {name: value}) for name, value in attributes.items() if plain.get(name) is not value
        ]
        steps = [_Attributes(made, parts.functions | plain), *map(_Fill, functions), *others]
        return steps, self._annotated(made), parts.registered

    def _attributes(self, part: _Attributes) -> tuple[Any, ...]:
        return _hosted_classes.set_attributes, (part.made, part.attributes)

    def _annotated(self, made: type) -> tuple[Any, ...]:
        """Return the types and the like that a class names in annotations as text; some libraries read those late."""
        annotations = inspect.get_annotations(made)
        names = getattr(sys.modules.get(made.__module__), "__dict__", {})
        space = self._space(names)
        if not self._registry.automatic or space.is_private or space.is_installed:
            return ()
        found = {name for text in annotations.values() for name in _IDENTIFIER.findall(str(text))}
        wanted = sorted(name for name in found if _is_of_annotations(names.get(name)))
        return self._names(space, names, wanted, known_of(_NO_CODE)) if wanted else ()

    # --- other objects

    def _other(self, obj: Any) -> Any:
        """Reduce an object that pickle would reduce to a name that the peer does not have."""
        kind: Any = type(obj)
        if kind in self.dispatch_table:
            return NotImplemented
        if id(obj) in self._members:
            return self._member(obj)
        if isinstance(obj, enum.Enum) and is_client_module(kind.__module__) and needs_care(kind):
            return getattr, (kind, obj.name)
        if isinstance(obj, BaseException):
            return reduce_error(obj) if is_plain_error(obj) else NotImplemented
        if kind.__name__ == "ValidateCallWrapper" and kind.__module__.startswith("pydantic."):
            return _validated_call(obj)
        if kind in _OWN and (self._meter.inside or id(obj) in self._own):
            return _hosted_modules.process_own, (_OWN[kind],)
        if kind is ContextVar and self._meter.inside:
            return self._context_variable(obj)
        if kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__:
            return NotImplemented
        reduced = obj.__reduce_ex__(5)
        if isinstance(reduced, str):
            return self._named(obj, reduced)
        owner = self._owners.get(id(obj))
        if owner is not None and any(part is owner for part in reduced[1]) and kind.__new__ is object.__new__:
            # A descriptor that would be looked up in its class, which does not have it yet.
            return object.__new__, (kind,), _state_before_use(obj)
        return reduced

    def _named(self, obj: Any, name: str) -> Any:
        """Reduce an object whose own `__reduce__` returns a name."""
        where = pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
        if not is_client_module(where) or self._registry.has_module(where):
            return name
        kind: Any = type(obj)
        if kind is BuiltinFunctionType or not has_source(where):
            text = f"{name} is from {where}, an extension module of the client: install it at the nodes"
            raise pickle.PicklingError(text)
        if not is_at(obj, where, name) or "." in name or base_in_c(kind) is not object:
            text = (
                f"it pickles as the name {where}.{name}, which servers do not have: define it in a module of its own, "
                "and list that module in Computation(components)"
            )
            raise pickle.PicklingError(text)
        bound = (where, sys.modules[where].__dict__.get(_hosted_modules.FOREIGN, origin()), name)
        return (
            _hosted_modules.singleton,
            (kind, *bound),
            object.__getstate__(obj),
            None,
            None,
            _hosted_modules.fill_singleton,
        )

    def _member(self, member: Any) -> tuple[Any, ...]:
        made, name = self._members[id(member)]
        new = (made, name, type(member)._member_type_, member_arguments(member))
        return _hosted_classes.member, new, member.__dict__, None, None, _hosted_classes.fill_member

    def _context_variable(self, variable: ContextVar[Any]) -> tuple[Any, ...]:
        try:
            return _hosted_modules.context_variable, (variable.name, Context().run(variable.get))
        except LookupError:
            return _hosted_modules.context_variable, (variable.name,)

    def _alias(self, alias: Any) -> Any:
        """Reduce the alias that a `type` statement makes; its value may refer to the alias itself."""
        where = alias.__module__
        if isinstance(where, str) and is_at(alias, where, alias.__name__):
            if not is_client_module(where) or self._registry.has_module(where):
                return alias.__name__
            bound = (where, sys.modules[where].__dict__.get(_hosted_modules.FOREIGN, origin()), alias.__name__)
        else:
            bound = None
        new = (alias.__name__, where, alias.__type_params__, bound)
        if alias.__type_params__:
            if id(alias) in self._aliases:
                text = (
                    f"the type alias {alias.__name__} has parameters and names itself: move it into a module, and list "
                    "that module in Computation(components)"
                )
                raise pickle.PicklingError(text)
            self._aliases.add(id(alias))
            return _hosted_modules.type_alias, (*new, alias.__value__)
        return _hosted_modules.type_alias, new, alias.__value__, None, None, _hosted_modules.fill_type_alias


class _Attributes:
    """Represents, in a pickle, one step of making a class."""

    def __init__(self, made: type, attributes: dict[str, Any]) -> None:
        self.made = made
        self.attributes = attributes


_NO_CODE = compile("", "", "exec")

_REDUCERS: dict[type, Callable[[ByValuePickler, Any], Any]] = {
    CellType: ByValuePickler._cell,  # noqa: SLF001
    _Whole: ByValuePickler._whole,  # noqa: SLF001
    _PostponedHalves: ByValuePickler._tail,  # noqa: SLF001
    _Fill: ByValuePickler._fill,  # noqa: SLF001
    _Mark: ByValuePickler._mark,  # noqa: SLF001
    _Attributes: ByValuePickler._attributes,  # noqa: SLF001
}
if sys.version_info >= (3, 12):
    _REDUCERS[typing.TypeAliasType] = ByValuePickler._alias  # noqa: SLF001


def pickle_carefully(
    obj: object, registry: Registry, new_file: Callable[[], Any], *, defining: Iterable[object] = ()
) -> tuple[Any, list[Any]]:
    """Pickle an object by value where needed, without the globals that cannot be pickled.

    Args:
        obj: Any object.
        registry: The objects and modules that the peer has.
        new_file: Makes the output of the pickle; its method `take`, if it has one, is the buffer callback.
        defining: As in `ByValuePickler`.

    Returns:
        The file, and `ByValuePickler.bound`.

    Raises:
        Exception: Any exception from pickling, which calls methods of users' classes.
    """
    later = False
    while True:
        file = new_file()
        take = getattr(file, "take", None)
        pickler = ByValuePickler(file, registry, defining=defining, later=later, buffer_callback=take)
        try:
            pickler.dump(obj)
        except MemoryError:
            raise
        except Exception as error:
            if not later and isinstance(error, (_TooDeepError, RecursionError)):
                later = True
            elif not pickler.refuse_innermost(error):
                raise
        else:
            pickler.say_what_can_change()
            return file, pickler.bound


def _is_of_annotations(value: object) -> bool:
    """Return whether a global is named in annotations for its own sake: a class, a module, or an object of `typing`."""
    return isinstance(value, type | ModuleType | GenericAlias | UnionType) or type(value).__module__ in _TYPING


def _parts_of(made: type) -> tuple[ClassParts, dict[str, Any] | None]:
    if issubclass(made, msgspec.Struct):
        return struct_taken_apart(made)
    return taken_apart(made), None


def _state_before_use(obj: Any) -> Any:
    """Return the state of an object without parts, such as caches, that are made by calling its own methods."""
    state = object.__getstate__(obj)
    return (
        {name: None if _is_made_by(value, obj) else value for name, value in state.items()}
        if isinstance(state, dict)
        else state
    )


def _is_made_by(value: Any, obj: object) -> bool:
    kind: Any = type(value)
    if kind.__reduce__ is object.__reduce__ or isinstance(value, type):
        return False
    reduced = value.__reduce_ex__(5)
    return isinstance(reduced, tuple) and getattr(reduced[0], "__self__", None) is obj


def _validated_call(wrapper: Any) -> tuple[Any, ...]:
    """Reduce the result of pydantic.validate_call: its validator cannot be pickled, but it can be made again."""
    function = wrapper.function
    hints = typing.get_type_hints(function, include_extras=True)
    config = getattr(wrapper.config_wrapper, "config_dict", None)
    return _hosted_modules.validated_call, (type(wrapper), function, hints, config, wrapper.validate_return)


def _contents(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _hosted_modules.NO_VALUE


def _submodules(package: ModuleType, names: frozenset[str]) -> tuple[str, ...]:
    """Return the loaded submodules that code reaches as attributes of a package (`import concurrent.futures`)."""
    if not hasattr(package, "__path__"):
        return ()
    prefix = f"{package.__name__}."
    below = [name for name in list(sys.modules) if name.startswith(prefix)]  # threads import meanwhile
    return tuple(name for name in below if names.issuperset(name[len(prefix) :].split(".")))
