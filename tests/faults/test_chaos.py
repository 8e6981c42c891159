"""A seeded killer at work on real programs: every job has one outcome, every wait ends, and nothing is left."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .chaos import chaos

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.network

SECONDS = float(os.environ.get("DISCORO_SOAK_SECONDS", "600"))
"""How long each seed of the soak takes."""


@pytest.mark.slow
async def test_a_minute_of_chaos_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    assert not await chaos(1, 45, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 8))
async def test_chaos_loses_nothing_and_leaves_nothing(seed: int, tmp_path: Path) -> None:
    assert not await chaos(seed, SECONDS, tmp_path)
