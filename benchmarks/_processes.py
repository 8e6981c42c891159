"""One measurement as a process of its own, with an end to it whatever it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from benchmarks._network import ends
from benchmarks._systems import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._figures import Figure
    from benchmarks._systems import System

PYTHON_PATH = (str(ROOT),)
"""Where measurements look for modules first: the workers of peers import `benchmarks`, wherever they run."""
TIME_TO_CLEAN_UP = 3.0
"""Seconds between asking a measurement that takes too long to end, and ending it."""


class MeasurementError(Exception):
    """A measurement has no value; its text is one line that says why."""


def measure_in_process(system: System, figure: Figure, *, seconds: float, timeout: float) -> float:
    """Run `benchmarks.measure` for one figure of one system in this environment.

    Args:
        system: What is measured.
        figure: One that the system has.
        seconds: How long it is measured.
        timeout: Seconds after which it has failed.

    Returns:
        The figure, in its unit.

    Raises:
        MeasurementError: The process failed, or took longer.
    """
    module = f"{system.package}.{figure.module}"
    return run_for_number(["-m", "benchmarks.measure", module, str(seconds)], timeout=timeout)


def run_for_number(arguments: list[str], *, timeout: float) -> float:
    """Run Python with these arguments until it has printed a number; nothing of it is left.

    Args:
        arguments: What follows `python` on the command line.
        timeout: Seconds after which it has failed.

    Raises:
        MeasurementError: It failed, took longer, or printed something else.
    """
    output, reason = run_for_output([sys.executable, *arguments], timeout=timeout)
    with suppress(ValueError):
        return float(json.loads(output))
    raise MeasurementError(reason)


def run_for_output(command: list[str], *, timeout: float, request: str = "") -> tuple[str, str]:
    """Run a program until it ends; nothing of it is left.

    Args:
        command: The program with its arguments.
        timeout: Seconds after which it has failed.
        request: What it reads from standard input.

    Returns:
        What it wrote to standard output, and one line that says what went wrong if this is not as expected.

    Raises:
        MeasurementError: It failed, or took longer.
    """
    with tempfile.TemporaryFile() as errors:
        with _open_group(command, errors.fileno()) as process:
            try:
                output, _ = process.communicate(request.encode(), timeout=timeout)
            except subprocess.TimeoutExpired:
                message = f"no result within {timeout:g} s"
                raise MeasurementError(message) from None
        errors.seek(0)
        reason = _reason(process.returncode, errors.read())
        if process.returncode:
            raise MeasurementError(reason)
        return output.decode(errors="replace"), reason


@contextmanager
def _open_group(command: list[str], errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program as the head of a process group, and end that group on leaving."""
    process = subprocess.Popen(
        [*ends("").near_command, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(PYTHON_PATH)},
        stdout=subprocess.PIPE,
        stderr=errors,
        stdin=subprocess.PIPE,
        process_group=0,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                _ask_to_end(process)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(TIME_TO_CLEAN_UP)


def _reason(returncode: int, errors: bytes) -> str:
    """Return the last line that says anything; below a group's traceback there are rulers."""
    lines = [line.strip(" |+-") for line in errors.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), f"exit code {returncode}")
