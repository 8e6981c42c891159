"""Ctrl-C while a program still imports what it needs: it ends, and has nothing to say."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.programs import environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.program

PROGRAM = """
import os, signal, sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted())
from discoro_trio._cli import run_package
run_package(sys.argv[2:])
"""


def interrupted(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that is interrupted when it begins to import a module."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, module, *arguments, "--no_discover"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(XDG_CONFIG_HOME=str(folder), XDG_STATE_HOME=str(folder)),
    )


@pytest.mark.fault("F23")
@pytest.mark.parametrize("module", ["attr", "trio", "click", "discoro_trio._cli._main"])
@pytest.mark.parametrize("arguments", [("node",), ("monitor", "127.0.0.1:1")], ids=" ".join)
def test_ctrl_c_during_the_imports_of_a_program_ends_it_without_a_word(
    arguments: tuple[str, ...], module: str, tmp_path: Path
) -> None:
    done = interrupted(tmp_path, module, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.fault("F23")
def test_ctrl_c_during_the_import_of_the_web_server_is_an_orderly_end(tmp_path: Path) -> None:
    done = interrupted(tmp_path, "quart", "--http_port", "0")
    assert done.returncode == 0
    assert "SIGINT: ending" in done.stderr
    assert "Traceback" not in done.stderr
