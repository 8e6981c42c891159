"""Checks of the arguments that users give to public calls.

Each check returns the value to use, or raises a TypeError or ValueError that names the argument, the expected value
and the value found. The call that receives a wrong argument refuses it: it must not fail in a background task, and it
must not reach another process.
"""

from __future__ import annotations

import operator
import os
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_LARGEST = 2**63 - 1
"""The largest integer that fits in a message."""


def wrong_type(name: str, value: object, expected: str) -> NoReturn:
    """Raise TypeError for an argument of another type."""
    message = f"{name} must be {expected}, not {reprlib.repr(value)}"
    raise TypeError(message)


def text(name: str, value: str) -> str:
    """Check a text, which must be encodable in UTF-8, and return it as a str: subclasses cannot be sent."""
    if not isinstance(value, str):
        wrong_type(name, value, "a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"{name} must be a text that UTF-8 can encode, not {reprlib.repr(value)}: {error.reason}"
        raise ValueError(message) from None
    return str.__str__(value)


def optional_text(name: str, value: str | None) -> str | None:
    """Check a text, or None."""
    return None if value is None else text(name, value)


def flag(name: str, value: bool) -> bool:  # noqa: FBT001 - the value is what is checked
    """Check a truth value."""
    if not isinstance(value, bool):
        wrong_type(name, value, "True or False")
    return value


def integer(name: str, value: int, *, least: int = -_LARGEST) -> int:
    """Check an integer and return it as an int; numpy's integers are accepted, and True is 1."""
    try:
        number = int(operator.index(value))
    except TypeError:
        wrong_type(name, value, "an int")
    if number < least:
        message = f"{name} must be {least} or more, not {value!r}"
        raise ValueError(message)
    if abs(number) > _LARGEST:
        message = f"{name} must fit into 64 bits, and {reprlib.repr(value)} does not"
        raise ValueError(message)
    return number


def optional_integer(name: str, value: int | None, *, least: int = -_LARGEST) -> int | None:
    """Check an integer, or None."""
    return None if value is None else integer(name, value, least=least)


def number(name: str, value: Any) -> float:
    """Check a number and return it as a float; fractions, decimals and numpy's numbers are accepted."""
    if isinstance(value, str | bytes | bytearray):
        wrong_type(name, value, "a number")
    try:
        return float(value)
    except TypeError:
        wrong_type(name, value, "a number")
    except OverflowError:
        message = f"{name} must fit into a float, and {reprlib.repr(value)} does not"
        raise ValueError(message) from None


def not_negative(name: str, value: float) -> float:
    """Check a number that is 0 or more; NaN is not."""
    checked = number(name, value)
    if not checked >= 0:
        message = f"{name} must be 0 or more, not {value!r}"
        raise ValueError(message)
    return checked


def above_zero(name: str, value: float) -> float:
    """Check a number that is more than 0; NaN is not."""
    checked = number(name, value)
    if not checked > 0:
        message = f"{name} must be more than 0, not {value!r}"
        raise ValueError(message)
    return checked


def callback(name: str, value: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function that is called in this process."""
    if not callable(value):
        wrong_type(name, value, "a function")
    return value


def path(name: str, value: str | os.PathLike[str]) -> str:
    """Check the path of a file or folder and return it as a str."""
    try:
        found = os.fspath(value)
    except TypeError:
        wrong_type(name, value, "a path, as str or os.PathLike")
    if not isinstance(found, str):
        wrong_type(name, value, "a path, as str or os.PathLike")
    return str.__str__(found)


def optional_path(name: str, value: str | os.PathLike[str] | None) -> Path | None:
    """Check the path of a file or folder, or None."""
    return None if value is None else Path(path(name, value))


def several(name: str, value: Iterable[T], what: str) -> list[T]:
    """Check a list, tuple or other iterable; a single text is refused."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        wrong_type(name, value, f"a list or tuple of {what}")
    return list(value)


def items(name: str, value: object) -> None:
    """Check that something can be iterated over, by `for` or by `async for`."""
    if any(getattr(value, way, None) is not None for way in ("__iter__", "__aiter__")):
        return
    sequence: Any = value  # perhaps one of the old protocol, as numpy's numbers seem to be
    try:
        iter(sequence)
    except TypeError:
        wrong_type(name, value, "an iterable or async iterable")


def checked(check: Callable[[str, Any], object]) -> Callable[[object, Any, Any], None]:
    """Make a validator for an attrs class from one of these checks; the field gets the value that the check returns."""

    def validate(instance: object, attribute: Any, value: Any) -> None:
        object.__setattr__(instance, attribute.name, check(attribute.name, value))

    return validate
