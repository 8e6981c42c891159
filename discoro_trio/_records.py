"""The base classes of internal records: classes that are defined by their fields.

Public values are attrs classes. Internal records are msgspec structs, as wire messages are: such a class takes a
thirtieth of the time while a program starts, because no source is generated and compiled, and its objects are made in
C. The types of the fields are only for readers and type checkers.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True):
    """A record whose fields do not change."""


class MutableRecord(msgspec.Struct):
    """A record whose fields may change."""
