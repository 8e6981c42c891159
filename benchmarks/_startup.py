"""How long a whole program takes from its start to its first line of output."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def seconds_to_first_line(program: Path, *, seconds: float) -> float:
    """Run a program again and again, and take the median time to its first line.

    Args:
        program: A Python file that prints its first result and ends.
        seconds: How long to go on; the first run, which may compile and fill caches, does not count.

    Returns:
        The median time from the start of the process, in seconds.

    Raises:
        SystemExit: The program failed; its own last words on standard error say why.
    """
    durations: list[float] = []
    with tempfile.TemporaryDirectory() as compiled:
        # What is installed is compiled once, so what the environment says about that does not count.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        _run(program, environment)
        deadline = perf_counter() + seconds
        while not durations or perf_counter() < deadline:
            durations.append(_run(program, environment))
    return statistics.median(durations)


def _run(program: Path, environment: dict[str, str]) -> float:
    command = [sys.executable, str(program)]
    begun = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        duration = perf_counter() - begun
        process.stdout.read()
    if process.returncode or not line:
        sys.exit(process.returncode or f"{program} has printed nothing")
    return duration
