"""The checks of conftest.py, each seen at work in a small run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

CONFTEST = Path(__file__).with_name("conftest.py")
SLEEP = ["sleep", f"61.{os.getpid()}"]
"""Not what another run of these tests may have started."""


def run_tests(folder: Path, source: str) -> tuple[int, str]:
    """Run one made-up test module under our conftest, with a short grace; return status and output."""
    text = CONFTEST.read_text(encoding="utf-8").replace("GRACE_SECONDS = 5.0", "GRACE_SECONDS = 0.2")
    (folder / "conftest.py").write_text(text, encoding="utf-8")
    (folder / "test_sample.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "trio_mode=true"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_a_tidy_run_passes_with_threads_that_trio_keeps(tmp_path: Path) -> None:
    source = """
import os, subprocess, sys, trio

async def test_tidy():
    await trio.to_thread.run_sync(lambda: None)
    await trio.run_process([sys.executable, "-c", ""])
    with open(os.devnull): pass
"""
    status, output = run_tests(tmp_path, source)
    assert (status, "1 passed" in output) == (0, True), output


def test_an_open_descriptor_fails_its_test(tmp_path: Path) -> None:
    status, output = run_tests(tmp_path, "import os\n\ndef test_leaky():\n    os.pipe()\n")
    assert status == 1
    assert "test_sample.py::test_leaky left file descriptors open" in output
    assert "pipe:" in output


def test_a_failing_test_keeps_its_own_error(tmp_path: Path) -> None:
    _, output = run_tests(tmp_path, "import os\n\ndef test_wrong():\n    os.pipe()\n    assert 1 == 2\n")
    assert "assert 1 == 2" in output
    assert "left file descriptors" not in output


def test_orphans_dead_children_and_threads_fail_the_run_and_the_living_are_ended(tmp_path: Path) -> None:
    source = """
import os, subprocess, threading, time

def test_untidy():
    subprocess.run(["sh", "-c", "SLEEP >/dev/null 2>&1 &"], check=True)
    subprocess.Popen(["true"], close_fds=True).returncode = 0  # nobody waits for it
    threading.Thread(target=time.sleep, args=(2,), name="untidy", daemon=True).start()
""".replace("SLEEP", " ".join(SLEEP))
    status, output = run_tests(tmp_path, source)
    assert status == 1
    assert "left behind by the tests" in output
    assert " ".join(SLEEP) in output
    assert "(zombie)" in output
    assert "thread untidy" in output
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == SLEEP]
