"""Start of a whole program to its first result from a server."""

from __future__ import annotations

from pathlib import Path

from benchmarks._startup import seconds_to_first_line


def measure(seconds: float) -> float:
    """Return seconds from the start of the process to its first result."""
    return seconds_to_first_line(Path(__file__).with_name("_first_result.py"), seconds=seconds)
