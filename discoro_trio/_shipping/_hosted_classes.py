"""Puts classes together again, step by step, from a pickle that carries them by value.

This runs no code of the client: neither the constructors of its metaclasses nor `__init_subclass__`, because their
effects on the class were sent with its attributes. Pickles name these functions, so their signatures are part of the
wire format. The other half is `_class_parts`.
"""

from __future__ import annotations

import abc
import threading
import types
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ._exception_parts import HEAP_TYPE
from ._hosted_modules import bind, fill_globals

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Iterable, Iterator

_IMMUTABLE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE: a C class whose attributes cannot be set."""


class _KnownClasses:
    """The classes that were sent or received."""

    def __init__(self) -> None:
        # Weak: classes made in functions must not accumulate.
        self.classes: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
        self.unfilled: weakref.WeakSet[type] = weakref.WeakSet()
        self.lock = threading.Lock()


_state = _KnownClasses()

class_keys: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()
"""The keys of all classes that were sent or received by value."""


versions: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()
"""The versions of the classes that were received by value, as `_freshness` counts them in their own process."""


def remember_class(key: bytes, made: type) -> None:
    """Record a class of this process that is sent by value, so that it is found when it is sent back."""
    _state.classes[key] = made


def class_(
    key: bytes, version: int, bound: tuple[str, bytes, str] | None, make: Callable[..., type], *args: Any
) -> type:
    """Return the class with this key: the existing one, or a new one, still without its attributes.

    If the existing one has an earlier version, it gets the attributes, too.
    """
    known = _state.classes.get(key)
    if known is not None:
        if version > versions.get(known, version):
            versions[known] = version
            _state.unfilled.add(known)
        return known
    made = _state.classes[key] = make(*args)
    versions[made] = version
    _state.unfilled.add(made)
    class_keys[made] = key
    if bound is not None:
        bind(made, *bound)
    return made


def set_attributes(made: type, attributes: dict[str, Any]) -> None:
    """Set some attributes of a new class; an existing one has them, and may have been changed on purpose."""
    if made not in _state.unfilled:
        return
    for name, value in attributes.items():
        try:
            type.__setattr__(made, name, value)
        except TypeError:  # its metaclass is written in C
            setattr(made, name, value)


def fill_class(made: type, state: tuple[Any, tuple[Any, ...], Iterable[type]]) -> None:
    """Finish a class whose attributes were set while the state was unpickled."""
    _, names, registered = state
    if names:
        fill_globals(*names)
    if made in _state.unfilled:
        _state.unfilled.discard(made)
        for subclass in registered:
            made.register(subclass)  # type: ignore[attr-defined]


def make_class(meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """Make a class without calling the hooks of its metaclass and its bases for new classes."""
    base: Any = next(above for above in meta.__mro__ if not above.__flags__ & HEAP_TYPE)
    with _quiet({found for one in bases for found in one.__mro__}):
        try:
            made: type = base.__new__(meta, name, bases, namespace)
        except TypeError:  # a metaclass in C that requires its own constructor
            made = types.new_class(name, bases, {"metaclass": meta}, lambda names: names.update(namespace))
    if issubclass(meta, abc.ABCMeta):
        begin: Any = abc._abc_init  # type: ignore[attr-defined] # noqa: SLF001 - as the constructor of ABCMeta does
        begin(made)
    return made


def _nothing(_: type, /, **__: object) -> None:
    """Stand in for `__init_subclass__`."""


@contextmanager
def _quiet(classes: Iterable[type]) -> Iterator[None]:
    """Remove `__init_subclass__` from classes temporarily; those of `typing` cannot change, and are harmless."""
    with _state.lock:
        taken = {
            found: found.__dict__["__init_subclass__"]
            for found in classes
            if "__init_subclass__" in found.__dict__
            and not found.__flags__ & _IMMUTABLE
            and found.__module__ != "typing"
        }
        for found in taken:
            type.__setattr__(found, "__init_subclass__", classmethod(_nothing))
        try:
            yield
        finally:
            for found, own in taken.items():
                type.__setattr__(found, "__init_subclass__", own)


def make_struct(
    meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any], options: dict[str, Any]
) -> type:
    """Make a msgspec Struct, whose fields and `__post_init__` must exist from the beginning; call no hooks."""
    encoded = {}
    for field in namespace["__annotations__"]:
        if field in namespace:
            encoded[field], default, is_factory = namespace.pop(field)
            if is_factory:
                namespace[field] = msgspec.field(default_factory=default)
            elif default is not msgspec.NODEFAULT:
                namespace[field] = default
    with _quiet({found for one in bases for found in one.__mro__}):
        made: type = meta(name, bases, namespace, rename=encoded, **options)
    return made


# --- enums


def member(kind: type[enum.Enum], name: str, data: Any, arguments: tuple[object, ...]) -> enum.Enum:
    """Return a member of an enum that is being made, or that already exists."""
    known: dict[str, enum.Enum] = kind.__dict__.get("_member_map_", {})
    if name in known:
        return known[name]
    made: enum.Enum = data.__new__(kind, *arguments)
    return made


def fill_member(made: enum.Enum, state: dict[str, object]) -> None:
    """Set the attributes of a new member."""
    if "_name_" not in made.__dict__:
        made.__dict__.update(state)
