"""Where the two ends of a figure over TLS run: on one host, or in two network namespaces (`--network`).

The namespaces are named in the environment, so the processes of a measurement find them.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "DISCORO_BENCHMARKS_NETWORK"
_NEAR, _FAR = "10.213.77.1", "10.213.77.2"


@frozen
class Ends:
    """The addresses of the two ends, and the commands that run a program there."""

    near: str
    far: str
    near_command: tuple[str, ...] = ()
    far_command: tuple[str, ...] = ()


def ends(address: str) -> Ends:
    """Return the ends of this measurement.

    Args:
        address: The address of both ends if they are on one host.
    """
    names = os.environ.get(_VARIABLE)
    if names is None:
        return Ends(address, address)
    near, far = names.split()
    return Ends(_NEAR, _FAR, _command(near), _command(far))


@contextmanager
def open_namespaces() -> Iterator[None]:
    """Make two connected network namespaces for the measurements in the block. It needs root and `ip` of iproute2."""
    near, far = (f"discoro-benchmark-{os.getpid()}-{end}" for end in ("near", "far"))
    try:
        for name in (near, far):
            _ip("netns", "add", name)
        _ip("link", "add", "eth0", "netns", near, "type", "veth", "peer", "name", "eth0", "netns", far)
        for name, address in ((near, _NEAR), (far, _FAR)):
            _ip("-n", name, "addr", "add", f"{address}/30", "dev", "eth0")
            for interface in ("lo", "eth0"):
                _ip("-n", name, "link", "set", interface, "up")
        os.environ[_VARIABLE] = f"{near} {far}"
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
        for name in (near, far):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S607 - the one in PATH


def _command(namespace: str) -> tuple[str, ...]:
    return "ip", "netns", "exec", namespace
