"""What a newcomer computes with every system: 10,000 uneven jobs over one array of 100 MB, some of which fail.

Each system's `newcomer_s` holds the program as its documentation suggests it: the array is sent once, errors are
collected, progress is shown. The program's lines are those of `program`.
"""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 10_000
_ROWS, _COLUMNS = 12_500, 1_000  # 100 MB
_FAILING = 1_000  # one job in so many fails


def score(table: np.ndarray, job: int) -> float:
    """Compute for 0.02 to 1 ms, or fail."""
    if job % _FAILING == 0:
        message = f"job {job} fails"
        raise ValueError(message)
    size = 1 + job * job % 50
    return float(np.sqrt(table[job % _ROWS : job % _ROWS + size]).sum())


def seconds_of(program: Callable[[np.ndarray], list[object]]) -> float:
    """Run a program once, from nothing to all results, and check these.

    Args:
        program: Takes the array and returns one value or error for each job, in order.

    Returns:
        How many seconds it took.
    """
    table = np.ones((_ROWS, _COLUMNS))
    begun = perf_counter()
    found = program(table)
    took = perf_counter() - begun
    assert Counter(type(one) for one in found) == {float: JOBS - JOBS // _FAILING, ValueError: JOBS // _FAILING}
    assert found[1] == score(table, 1)
    return took
