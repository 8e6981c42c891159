"""Takes classes apart for a pickle that carries them by value.

This module decides which attributes of a class are sent, and in which order the receiver needs them: first the class
with its functions, then the objects to which those functions refer, then all other attributes, which may be instances
of the class. `_hosted_classes` puts classes together again.
"""

from __future__ import annotations

import abc
import enum
import inspect
import types
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from .._records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Attributes that `type.__new__` makes itself, or that a class has from the beginning; and what msgspec keeps for a
# class that it has decoded, which cannot be pickled.
_MADE_WITH_THE_CLASS = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "__orig_bases__",
        "_abc_impl",
        "__msgspec_cache__",
    }
)
_WRAPPERS = (staticmethod, classmethod)
# Pickling, hashing and construction call these, so they are completed before other functions.
_CALLED_EARLY = frozenset({
    "__new__", "__init__", "__post_init__", "__setattr__", "__setstate__", "__reduce__", "__reduce_ex__", "__hash__",
    "__eq__", "__getnewargs__", "__getnewargs_ex__", "__getattr__", "__getattribute__",
})  # fmt: skip
_STRUCT_CONFIG = (
    "frozen", "eq", "order", "array_like", "gc", "repr_omit_defaults", "omit_defaults", "forbid_unknown_fields",
    "weakref", "dict", "cache_hash", "tag", "tag_field",
)  # fmt: skip


_STRUCT_FACTORY: Any = type(
    msgspec.defstruct("_Factory", [("x", list, msgspec.field(default_factory=list))]).__struct_defaults__[0]
)


class ClassParts(Record, frozen=True):
    """The parts of a class."""

    namespace: dict[str, Any]
    """The namespace with which it is made."""
    functions: dict[str, Any]
    """Its functions, and objects that consist only of functions: properties, static and class methods."""
    attributes: dict[str, Any]
    """All others."""
    registered: tuple[type, ...]
    """The virtual subclasses of an abstract base class."""


def taken_apart(made: type) -> ClassParts:
    """Take an ordinary class apart; an enum's members are among its attributes."""
    own = made.__dict__
    namespace: dict[str, Any] = {"__module__": made.__module__, "__qualname__": made.__qualname__}
    if "__slots__" in own:
        # From the descriptors: `__slots__` may be an iterator, or may have changed.
        namespace["__slots__"] = (*_slots_of(made), *(name for name in ("__dict__", "__weakref__") if name in own))
    if isinstance(own.get("__dict__"), property):
        namespace["__dict__"] = own["__dict__"]
    if "__orig_bases__" in own:
        namespace["__orig_bases__"] = own["__orig_bases__"]  # `typing.Generic` looks for them
    functions: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, value in own.items():
        if name in _MADE_WITH_THE_CLASS or _is_slot_of(value, made):
            continue
        (functions if any(True for _ in functions_in(value)) else attributes)[name] = value
    if isinstance(made, enum.EnumMeta):
        attributes["_value2member_map_"] = _canonical(made)
    registered = ()
    if isinstance(made, abc.ABCMeta):
        dump: Any = abc._get_dump  # type: ignore[attr-defined] # noqa: SLF001 - there is no other way to list them
        alive = (reference() for reference in dump(made)[0])
        registered = tuple(found for found in alive if found is not None)
    return ClassParts(namespace, functions, attributes, registered)


def struct_taken_apart(made: type[msgspec.Struct]) -> tuple[ClassParts, dict[str, Any]]:
    """Take a msgspec Struct apart.

    Returns:
        Its parts, and the options with which it was made.
    """
    own = made.__dict__
    encoded = dict(zip(made.__struct_fields__, made.__struct_encode_fields__, strict=True))
    annotations = {
        # As text, `ClassVar` would be read with the globals of the module, which the receiver does not have yet.
        name: annotation if name in encoded or not isinstance(annotation, str) else ClassVar
        for name, annotation in inspect.get_annotations(made).items()
    }
    namespace: dict[str, Any] = {
        "__module__": made.__module__, "__qualname__": made.__qualname__, "__annotations__": annotations,
    }  # fmt: skip
    if "__orig_bases__" in own:
        namespace["__orig_bases__"] = own["__orig_bases__"]  # `typing.Generic` looks for them
    defaults = made.__struct_defaults__
    with_default = dict(
        zip(made.__struct_fields__[len(made.__struct_fields__) - len(defaults) :], defaults, strict=True)
    )
    for name in annotations:
        if name in encoded:
            default = with_default.get(name, msgspec.NODEFAULT)
            is_factory = type(default) is _STRUCT_FACTORY
            namespace[name] = (encoded[name], default.factory if is_factory else default, is_factory)
    config = made.__struct_config__
    options = {name: getattr(config, name) for name in _STRUCT_CONFIG if hasattr(config, name)}
    options["kw_only"] = any(name in encoded and name not in made.__match_args__ for name in annotations)
    functions: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, value in own.items():
        standard = name.startswith("__struct_") or name in {"__slots__", "__match_args__", "__annotations__"}
        if standard or name in _MADE_WITH_THE_CLASS or _is_slot_of(value, made):
            continue
        (functions if any(True for _ in functions_in(value)) else attributes)[name] = value
    return ClassParts(namespace, functions, attributes, ()), options


def functions_in(value: object) -> Iterator[types.FunctionType]:
    """Yield the functions that an attribute consists of; none if it has any other part."""
    if type(value) is types.FunctionType:
        found: tuple[object, ...] = (value,)
    elif type(value) in _WRAPPERS:
        found = (value.__func__,)  # type: ignore[attr-defined]
    elif type(value) is property:
        found = tuple(part for part in (value.fget, value.fset, value.fdel) if part is not None)
    elif type(value) is cached_property:
        found = (value.func,)
    else:
        return
    if all(type(part) is types.FunctionType for part in found):
        yield from found  # type: ignore[misc]


def functions_of(parts: ClassParts) -> list[types.FunctionType]:
    """Return all functions of a class, in the order in which they must be completed."""
    ordered = sorted(parts.functions.items(), key=lambda item: item[0] not in _CALLED_EARLY)
    return [function for _, value in ordered for function in functions_in(value)]


def member_arguments(member: enum.Enum) -> tuple[object, ...]:
    """Return the arguments with which the data type of an enum makes a member.

    Raises:
        TypeError: They cannot be determined.
    """
    made: Any = type(member)
    kind = made._member_type_
    if kind is object:
        return ()
    if issubclass(kind, int):
        return (int.__pos__(member),)  # type: ignore[arg-type]
    if issubclass(kind, float):
        return (float.__pos__(member),)  # type: ignore[arg-type]
    if issubclass(kind, (str, bytes, tuple)):
        base: Any = next(base for base in (str, bytes, tuple) if issubclass(kind, base))
        return (base.__getitem__(member, slice(None)),)
    if kind.__new__ is object.__new__:
        return ()
    reduced = kind.__reduce_ex__(member, 4)
    if isinstance(reduced, tuple) and reduced[0] is type(member):
        return tuple(reduced[1])
    text = f"members of {type(member).__qualname__} cannot be taken apart: give the enum no data type"
    raise TypeError(text)


def _slots_of(made: type) -> Iterator[str]:
    return (name for name, value in made.__dict__.items() if _is_slot_of(value, made))


def _is_slot_of(value: object, made: type) -> bool:
    return type(value) is types.MemberDescriptorType and value.__objclass__ is made


def _canonical(made: enum.EnumMeta) -> dict[Any, Any]:
    """Return the members by value, without combinations of flags that were created later."""
    known: Mapping[str, object] = made.__members__
    values: dict[Any, Any] = made.__dict__["_value2member_map_"]
    return {value: member for value, member in values.items() if known.get(member._name_) is member}
