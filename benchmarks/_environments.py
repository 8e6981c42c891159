"""An environment of its own for each peer, so that no peer needs this environment or disturbs another.

They are kept in a folder between runs, named after the peer, its requirements and the Python version. uv makes them if
it is installed, otherwise the standard library's venv and pip do.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import platformdirs
from attrs import frozen

from benchmarks._peer_process import version_of
from benchmarks._processes import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks._systems import Peer

FOLDER = platformdirs.user_cache_path("discoro-benchmarks")
_PATIENCE = 900.0
"""Seconds for one step of an installation; the largest peer has a gigabyte."""
_REASON = 300
"""Characters that are kept of an installer's reason."""
_COMPLETE = "complete"
"""The name of the file that an environment has once everything is installed."""


class NotAvailable(Exception):  # noqa: N818 - it is no error of the program
    """A peer cannot be measured here; the text is one line that says why."""


@frozen
class Ready:
    """A peer that can be measured."""

    python: str
    """The interpreter of its environment."""
    version: str


def prepare(
    peers: Iterable[Peer], *, folder: Path = FOLDER, newest: bool = False
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Make the environments that are missing and ask each peer for its version.

    Args:
        peers: The systems to be measured.
        folder: Where the environments are kept.
        newest: Install the newest versions in place of the pinned ones; those that are kept are brought up to date.

    Returns:
        What is ready, and why other peers are not, by the peers' names.
    """
    ready: dict[str, Ready] = {}
    missing: dict[str, str] = {}
    for peer in peers:
        try:
            python = _interpreter(peer, folder, newest=newest)
            ready[peer.name] = Ready(python, version_of(peer, python))
        except (NotAvailable, MeasurementError) as reason:
            missing[peer.name] = str(reason)
    return ready, missing


def _interpreter(peer: Peer, folder: Path, *, newest: bool) -> str:
    """Return the interpreter of a peer's environment, which is made if need be."""
    if peer.program is not None and shutil.which(peer.program) is None:
        message = f"{peer.program} is not on PATH"
        raise NotAvailable(message)
    if not peer.requires:
        return sys.executable
    requirements = peer.newest if newest else peer.requires
    kept = folder / _name(peer, requirements)
    python = str(kept / "bin" / "python")
    if newest or not (kept / _COMPLETE).exists():
        print(f"installing {peer.name} into {kept} …", file=sys.stderr)
        _install(kept, python, requirements, upgrade=newest)
        (kept / _COMPLETE).touch()
    return python


def _name(peer: Peer, requirements: Sequence[str]) -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:8]
    return f"{peer.package.rpartition('.')[2]}-python{version}-{digest}"


def _install(kept: Path, python: str, requirements: Sequence[str], *, upgrade: bool) -> None:
    upgrades = ["--upgrade"] if upgrade else []
    if uv := shutil.which("uv"):
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(kept))
        _run(uv, "pip", "install", "--quiet", "--python", python, *upgrades, *requirements)
    else:
        _run(sys.executable, "-m", "venv", "--clear", str(kept))
        _run(python, "-m", "pip", "install", "--quiet", *upgrades, *requirements)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        message = f"it cannot be installed: {' '.join(error.stderr.split())[:_REASON]}"
        raise NotAvailable(message) from None
    except subprocess.TimeoutExpired:
        message = f"it was not installed within {_PATIENCE:g} s"
        raise NotAvailable(message) from None
