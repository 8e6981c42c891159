"""Rounds that alternate between the systems, and their medians. Owns no process and no output."""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from attrs import Factory, define, frozen

from benchmarks._processes import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks._systems import System


@frozen
class Plan:
    """How much is measured."""

    rounds: int
    """Rounds for each figure."""
    seconds: float
    """How long a measurement goes on, beside its start and its end."""
    timeout: float
    """Seconds after which a measurement has failed."""
    budget: float
    """Seconds for a figure: after the first, only rounds begin that should end within it."""


# The slowest peer needs 80 s for the newcomer's program.
THOROUGH = Plan(rounds=5, seconds=1.0, timeout=120.0, budget=300.0)
QUICK = Plan(rounds=3, seconds=0.25, timeout=20.0, budget=9.0)


@define
class Outcome:
    """What the rounds for one figure have given: each system has values, or the reason why not."""

    values: dict[str, list[float]] = Factory(dict)
    failures: dict[str, str] = Factory(dict)

    def medians(self) -> dict[str, float]:
        """Return the median of each system that did not fail."""
        return {name: statistics.median(values) for name, values in self.values.items()}

    def spreads(self) -> dict[str, tuple[float, float]]:
        """Return the least and the greatest value of each system that did not fail."""
        return {name: (min(values), max(values)) for name, values in self.values.items()}


def alternate(
    systems: Sequence[System],
    measure: Callable[[System], float],
    plan: Plan,
    *,
    clock: Callable[[], float] = perf_counter,
) -> Outcome:
    """Measure one system after the other, and all of them again in each further round.

    A system that fails is not measured again and keeps no value; the others are not concerned.

    Args:
        systems: What to measure, in this order.
        measure: Gives the figure of one system, or raises MeasurementError.
        plan: How many rounds, and how long they may take.
        clock: The time in seconds.
    """
    outcome = Outcome()
    begun = round_begun = clock()
    for _ in range(plan.rounds):
        for system in systems:
            if system.name not in outcome.failures:
                _measure_once(system, measure, outcome)
        now = clock()
        if now - begun + (now - round_begun) > plan.budget:
            break
        round_begun = now
    return outcome


def _measure_once(system: System, measure: Callable[[System], float], outcome: Outcome) -> None:
    try:
        value = measure(system)
    except MeasurementError as error:
        outcome.values.pop(system.name, None)
        outcome.failures[system.name] = str(error)
    else:
        outcome.values.setdefault(system.name, []).append(value)
