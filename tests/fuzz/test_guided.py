"""Inputs that are changed toward code that none has reached before find nothing, in all that reads a peer's bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.client.clusters import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("atheris", reason="`nox -s fuzz` installs it, where it exists")

TARGETS = (
    "handshake",
    "discovery",
    "file parts",
    "HTTP",
    "WebSocket",
    "frames",
    "control messages",
    "batches",
    "components",
    "places in shared memory",
    "questions of browsers",
)
SECONDS = float(os.environ.get("DISCORO_FUZZ_SECONDS", "60"))

pytestmark = [pytest.mark.fuzz, pytest.mark.fault("F16"), pytest.mark.slow]


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_reach_new_code_find_no_error(target: str, tmp_path: Path) -> None:
    seconds = max(1, round(SECONDS / len(TARGETS)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", target, str(seconds), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * seconds + 60,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    covered = re.findall(r"cov: (\d+)", done.stderr)
    assert covered, done.stderr[-1000:]
    sys.stdout.write(f"{target}: coverage {covered[0]} -> {covered[-1]}\n")
