"""Exceptions as type, arguments and attributes.

An exception is made again without its constructor, because the parameters of the constructor may differ from `args`.
"""

from __future__ import annotations

import enum
from types import MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: the class was made by a class statement, and not in C."""

_WITHOUT_STATE = 2
_ATOMS = (str, bytes, int, float, complex, type(None))


def is_plain_error(error: BaseException) -> bool:
    """Return whether an exception consists only of its type, its arguments and its attributes."""
    kind = type(error)
    in_c = isinstance(kind.__reduce__, (MethodDescriptorType, WrapperDescriptorType))
    return in_c and kind.__reduce_ex__ is object.__reduce_ex__ and kind.__setstate__ is BaseException.__setstate__


def needs_care(kind: object) -> bool:
    """Return whether plain pickles of a class's objects may fail to unpickle.

    Unpickling calls exceptions with their `args`, and looks up enum members by their values.
    """
    if not isinstance(kind, type):
        return False
    if isinstance(kind, enum.EnumMeta):
        members: Mapping[str, enum.Enum] = kind.__members__
        return not all(_is_plain(member.value) for member in members.values())
    if not issubclass(kind, BaseException):
        return False
    base = base_in_c(kind)
    return kind.__init__ is not base.__init__ or kind.__new__ is not base.__new__


def _is_plain(value: object) -> bool:
    return isinstance(value, _ATOMS) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def reduce_error(error: BaseException) -> tuple[Any, ...]:
    """Reduce a plain error, for a pickler."""
    reduced: Any = error.__reduce__()
    state = reduced[2] if len(reduced) > _WITHOUT_STATE else {}
    return make_error, (type(error), reduced[1]), state


def make_error(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception from its type and arguments."""
    base = base_in_c(kind)
    made: BaseException = base.__new__(kind, *args)
    base.__init__(made, *args)
    return made


def base_in_c(kind: type) -> Any:
    """Return the C class from which a class is derived."""
    return next(above for above in kind.__mro__ if not above.__flags__ & HEAP_TYPE)
