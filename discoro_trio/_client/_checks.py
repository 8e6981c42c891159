"""The checks of numbers that users give, with texts that name the option."""

from __future__ import annotations

from typing import TypeVar

N = TypeVar("N", int, float)


def not_negative(name: str, value: N) -> N:
    """Give a number that is 0 or more; ValueError for any other, and for NaN."""
    if not value >= 0:
        message = f"{name} must be 0 or more, not {value!r}"
        raise ValueError(message)
    return value


def at_least_one(name: str, value: int) -> int:
    """Give a number that is 1 or more; ValueError for any other."""
    if value < 1:
        message = f"{name} must be 1 or more, not {value!r}"
        raise ValueError(message)
    return value
