"""The bases of the records inside of the package: classes that are made by giving their fields.

Public values are attrs classes. What stays inside is made as wire messages are: such a class takes a thirtieth of the
time while a program starts, as no source is written and compiled for it, and its objects are made in C.
The types of their fields are for readers and checkers alone.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True):
    """Fields that stay as they are."""


class MutableRecord(msgspec.Struct):
    """Fields that change."""
