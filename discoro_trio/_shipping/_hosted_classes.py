"""Classes put together again, step by step, from a pickle that carries them by value.

Nothing of the client's runs for that: neither its metaclasses' constructors nor `__init_subclass__`, for what those did
when the class was made came along with its attributes. Pickles name these functions, so their signatures are a part of
the wire format. The other half is `_class_parts`.
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
"""Py_TPFLAGS_IMMUTABLETYPE: the class is one of C, whose attributes cannot be set."""


class _State:
    """The classes that went out or came in."""

    def __init__(self) -> None:
        # Weak: classes made in functions must not pile up.
        self.classes: weakref.WeakValueDictionary[bytes, type] = weakref.WeakValueDictionary()
        self.unfilled: weakref.WeakSet[type] = weakref.WeakSet()
        self.lock = threading.Lock()


_state = _State()

class_keys: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()
"""The keys of all classes that went out or came in by value."""


versions: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()
"""The versions of the classes that came in by value, as `_freshness` counts them where they are from."""


def remember_class(key: bytes, made: type) -> None:
    """Note a class of this process that goes out by value, so that it is found when it comes back."""
    _state.classes[key] = made


def class_(
    key: bytes, version: int, bound: tuple[str, bytes, str] | None, make: Callable[..., type], *args: Any
) -> type:
    """Give the class with this key: the one that is here, or else a new one, still without its attributes.

    One that is here, of an earlier version, gets the attributes too.
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
    """Give a new class some of its attributes; one that was here has them, and may have been changed on purpose."""
    if made not in _state.unfilled:
        return
    for name, value in attributes.items():
        try:
            type.__setattr__(made, name, value)
        except TypeError:  # its metaclass is written in C
            setattr(made, name, value)


def fill_class(made: type, state: tuple[Any, tuple[Any, ...], Iterable[type]]) -> None:
    """End the making of a class, whose attributes were set while the state was opened."""
    _, names, registered = state
    if names:
        fill_globals(*names)
    if made in _state.unfilled:
        _state.unfilled.discard(made)
        for subclass in registered:
            made.register(subclass)  # type: ignore[attr-defined]


def make_class(meta: type, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
    """Make a class without calling what its metaclass and its bases do for new classes."""
    base: Any = next(above for above in meta.__mro__ if not above.__flags__ & HEAP_TYPE)
    with _quiet({found for one in bases for found in one.__mro__}):
        try:
            made: type = base.__new__(meta, name, bases, namespace)
        except TypeError:  # a metaclass in C that insists on its own constructor
            made = types.new_class(name, bases, {"metaclass": meta}, lambda names: names.update(namespace))
    if issubclass(meta, abc.ABCMeta):
        begin: Any = abc._abc_init  # type: ignore[attr-defined] # noqa: SLF001 - as the constructor of ABCMeta does
        begin(made)
    return made


def _nothing(_: type, /, **__: object) -> None:
    """Stand in for `__init_subclass__`."""


@contextmanager
def _quiet(classes: Iterable[type]) -> Iterator[None]:
    """Take `__init_subclass__` from classes for a while; those of `typing` cannot change, and do no harm."""
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
    """Make a msgspec Struct, whose fields and `__post_init__` must be there from the beginning."""
    encoded = {}
    for field in namespace["__annotations__"]:
        if field in namespace:
            encoded[field], default, is_factory = namespace.pop(field)
            if is_factory:
                namespace[field] = msgspec.field(default_factory=default)
            elif default is not msgspec.NODEFAULT:
                namespace[field] = default
    made: type = meta(name, bases, namespace, rename=encoded, **options)
    return made


# --- enums


def member(kind: type[enum.Enum], name: str, data: Any, arguments: tuple[object, ...]) -> enum.Enum:
    """Give a member of an enum that is being made, or that was here."""
    known: dict[str, enum.Enum] = kind.__dict__.get("_member_map_", {})
    if name in known:
        return known[name]
    made: enum.Enum = data.__new__(kind, *arguments)
    return made


def fill_member(made: enum.Enum, state: dict[str, object]) -> None:
    """Give a new member its attributes."""
    if "_name_" not in made.__dict__:
        made.__dict__.update(state)
