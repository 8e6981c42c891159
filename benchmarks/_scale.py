"""How much of everything: the numbers that make a figure the same figure for every system.

Holds what is loaded onto a system, and its units; how it is put to work is in `_load` for systems on
Trio, and in each system's own modules otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

WORKERS = 2
"""Worker processes of every system."""

IN_FLIGHT = 256
"""Jobs under way at once, where it is many."""

CHUNK = 1000
"""Jobs in a chunk, where they go in chunks."""

MAPPED = 200_000
"""Jobs of one chunked map."""

SUSPENDED = 10_000
"""Coroutines whose memory is measured."""

BETWEEN_SMALL = 0.001
"""Seconds between two small messages beside bulk data."""

FEWEST = 2
"""Messages of which a percentile can be said."""

WARM_UP = 0.2
"""Time of the same load before the measured one, as a part of that."""

MICROSECONDS = 1_000_000
"""In a second."""

_MEBIBYTE = 1 << 20
_BULK_MEBIBYTES = 64
_MEGABYTE = 1_000_000


def bulk_payload() -> bytes:
    """Return 64 MiB that do not compress and lie in real pages."""
    return os.urandom(_MEBIBYTE) * _BULK_MEBIBYTES


def bulk_megabytes_per_second(round_trip: float) -> float:
    """Return what moving `bulk_payload` there and back in so many seconds is, in 10⁶ bytes a second."""
    return 2 * _BULK_MEBIBYTES * _MEBIBYTE / _MEGABYTE / round_trip


def one_way_megabytes_per_second(seconds: float) -> float:
    """Return what moving `bulk_payload` in so many seconds is, in 10⁶ bytes a second."""
    return _BULK_MEBIBYTES * _MEBIBYTE / _MEGABYTE / seconds


def resident_megabytes() -> float:
    """Return the resident memory of this process, in 10⁶ bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MEGABYTE
