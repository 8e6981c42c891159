"""Erlang/OTP: messages and calls between two nodes on this machine. The figures are in `figures.erl`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUIET = ["-noshell", "-noinput", "-start_epmd", "false", "-setcookie", "benchmarks"]
_LOOPBACK = "{127,0,0,1}"


def version() -> str:
    """Return the release of OTP."""
    code = 'io:format("~s", [erlang:system_info(otp_release)]), halt().'
    return subprocess.run(_erl("-noshell", "-eval", code), check=True, capture_output=True, text=True).stdout


def _erl(*arguments: str) -> list[str]:
    return [shutil.which("erl") or "erl", *arguments]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def _compiled() -> Iterator[str]:
    """Compile the figures into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(__file__).with_name("figures.erl")
        subprocess.run([shutil.which("erlc") or "erlc", "-o", folder, source], check=True)
        yield folder


def _between_nodes(folder: str, figure: str, seconds: float) -> float:
    """Start two nodes, which find each other without the daemon epmd, and return what the near one prints."""
    common = [*_QUIET, "-erl_epmd_port", str(_free_port()), "-pa", folder]
    far = subprocess.Popen(_erl(*common, "-sname", "far@localhost", "-kernel", "inet_dist_use_interface", _LOOPBACK))
    try:
        near = [*common, "-sname", "near@localhost", "-dist_listen", "false"]
        call = ["-run", "figures", "main", figure, str(round(seconds * 1000)), "far@localhost"]
        found = subprocess.run(_erl(*near, *call), check=True, capture_output=True, text=True)
        return float(found.stdout.split()[-1])
    finally:
        far.terminate()
        far.wait()


def _measured(figure: str, seconds: float) -> float:
    with _compiled() as folder:
        return _between_nodes(folder, figure, seconds)


def jobs_per_s(seconds: float) -> float:
    """Call a function of the other node from many processes."""
    return _measured("jobs_per_s", seconds)


def job_latency_us(seconds: float) -> float:
    """Call a function of the other node and wait for the value."""
    return _measured("job_latency_us", seconds)


def message_roundtrip_us(seconds: float) -> float:
    """Send a message to a process of the other node and wait for the answer."""
    return _measured("message_roundtrip_us", seconds)


def messages_per_s(seconds: float) -> float:
    """Send messages to a process of the other node until it has counted the last."""
    return _measured("messages_per_s", seconds)


def bulk_roundtrip_mbps(seconds: float) -> float:
    """Send 64 MiB to a process of the other node and wait for them to come back."""
    return _measured("bulk_roundtrip_mbps", seconds)


def startup_s(_seconds: float) -> float:
    """Start both nodes, to the first value of a call."""
    with _compiled() as folder:
        begun = perf_counter()
        _between_nodes(folder, "job_latency_us", 0)
        return perf_counter() - begun
