"""The shortest programs of the peers with a result, which stand in `first_result`."""

from __future__ import annotations

from pathlib import Path

from benchmarks._startup import seconds_to_first_line


def startup(program: str, seconds: float) -> float:
    """Return the seconds from the start of a program to its first result."""
    return seconds_to_first_line(Path(__file__).parent / "first_result" / f"{program}.py", seconds=seconds)
