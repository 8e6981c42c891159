"""This side of the conversation with a peer's process; the other side and the protocol are in `peer_systems.serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks._processes import MeasurementError, run_for_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks._figures import Figure
    from benchmarks._systems import Peer
    from benchmarks._uneven import Job

_IMPORTING = 60.0
"""Seconds in which a peer must have been imported, for the first time after it was installed, too."""


def version_of(peer: Peer, python: str) -> str:
    """Start a peer's process in its environment and return the version that it reports.

    Raises:
        MeasurementError: It cannot be imported.
    """
    [first, *_] = _answers(peer, python, "", timeout=_IMPORTING)
    return str(first["version"])


def measure_peer(peer: Peer, python: str, figure: Figure, *, seconds: float, timeout: float) -> float:
    """Measure one figure of a peer in a process of its own.

    Args:
        peer: What is measured; it has the figure.
        python: The interpreter of the peer's environment.
        figure: What to measure.
        seconds: How long it is measured.
        timeout: Seconds after which it has failed.

    Returns:
        The figure, in its unit.

    Raises:
        MeasurementError: The peer failed, or took longer.
    """
    return float(_value(peer, python, figure.module, [seconds], timeout=timeout))


def sets_of_peer(
    peer: Peer, python: str, servers: int, sets: Sequence[Sequence[Job]], *, asleep: bool, timeout: float
) -> list[list[float]]:
    """Have a peer run sets of uneven jobs; see `_uneven.timed_sets` for the result. Raises as `measure_peer`."""
    found: list[list[float]] = _value(peer, python, "uneven", [servers, sets, asleep], timeout=timeout)
    return found


def _value(peer: Peer, python: str, function: str, arguments: Sequence[object], *, timeout: float) -> Any:
    request = json.dumps({"figure": function, "arguments": arguments})
    answers = _answers(peer, python, request + "\n", timeout=timeout)
    for answer in answers:
        if "value" in answer:
            return answer["value"]
    raise MeasurementError(str(answers[-1].get("error", "it gave no value")))


def _answers(peer: Peer, python: str, requests: str, *, timeout: float) -> list[dict[str, Any]]:
    """Return the lines of a peer's process: its first one, then one for each request."""
    command = [python, "-m", "benchmarks.peer_systems.serve", peer.package]
    output, reason = run_for_output(command, timeout=timeout, request=requests)
    try:
        answers: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    except ValueError:
        raise MeasurementError(reason) from None
    if not answers:
        raise MeasurementError(reason)
    return answers
