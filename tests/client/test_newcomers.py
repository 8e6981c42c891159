"""Whole programs as newcomers write them from the documentation, in a notebook."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.discoro import newcomer_s as here
from benchmarks.peer_systems import joblib, process_pool

from .notebooks import execute, texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="servers are forked")

CELLS = [
    """
import numpy as np
import discoro_trio as discoro

table = np.ones((12_500, 1_000))  # 100 MB
""",
    """
def score(shared, job):
    if job % 1_000 == 0:
        raise ValueError(f"job {job} fails")
    size = 1 + job * job % 50
    return float(np.sqrt(shared.value[job : job + size]).sum())

cluster = discoro.connect(servers=2)
shared = cluster.share(table)
jobs = cluster.map(lambda job: score(shared, job), range(10_000), errors="collect", progress=True)
found = dict(jobs.with_items())
""",
    """
failed = {job: error for job, error in found.items() if isinstance(error, Exception)}
print(len(found), len(failed), failed[3_000], {repr(error) for error in failed.values() if type(error) != ValueError})
print(all(found[job] == (1 + job * job % 50) * 1_000 for job in found if job not in failed))
""",
]


@pytest.mark.spec("B28", "B35")
def test_ten_thousand_jobs_with_a_shared_array_errors_and_progress_in_a_notebook(tmp_path: Path) -> None:
    outputs = execute(CELLS, tmp_path)
    assert texts(outputs[2]) == ["10000 10 job 3000 fails set()\nTrue\n"]
    assert any("10000/10000 (100%) done, 10 failed" in text for text in texts(outputs[1]))


def test_the_same_program_is_longer_with_other_libraries() -> None:
    with_joblib = lines_of(joblib._collected, joblib._newcomer)
    with_pool = lines_of(process_pool._keep, process_pool._score_shared, process_pool._newcomer)
    assert lines_of(here.program) < min(with_joblib, with_pool)


def lines_of(*program: Callable[..., object]) -> int:
    """Count the lines of code of a program."""
    lines = [line.strip() for part in program for line in inspect.getsource(part).splitlines()]
    return sum(bool(line) and not line.startswith(("#", '"""')) for line in lines)
