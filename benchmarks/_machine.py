"""The machine and the version of the code that a run measures, for those who read its figures later."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks._systems import ROOT


def described() -> dict[str, Any]:
    """Return what `--json` writes about the run, before anything is measured."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_GB": round(psutil.virtual_memory().total / 1e9),
        "load_before": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str | None:
    """Return the commit of the sources; None outside of a repository."""
    if (git := shutil.which("git")) is None:
        return None
    found = subprocess.run([git, "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
