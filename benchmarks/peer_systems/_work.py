"""What the workers of every peer do. It needs nothing of the peer."""

from __future__ import annotations

from typing import Any


def increment(value: int) -> int:
    """Do the least that a job can do."""
    return value + 1


def increment_all(values: range) -> list[int]:
    """Do it for each of many values."""
    return [increment(value) for value in values]


def last_of(value: Any) -> int:
    """Look at the last byte of a value."""
    return int(value[-1])


def total_of(value: Any) -> int:
    """Look at all of a value."""
    return int(value.sum())
