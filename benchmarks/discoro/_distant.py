"""A computation at a node of its own: client and server talk over TCP as two machines do, under TLS or not."""

from __future__ import annotations

import secrets
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from benchmarks._network import ends
from discoro_trio._link import ANY, current_endpoint, main_address
from discoro_trio._link.shared_memory._sharing import SharedAccepted, SharedOffer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoro_trio._link import Link
    from discoro_trio._wire import Control

PORTS = (51391, 51392)


def _decline(_link: Link, _message: Control) -> None:
    """Machines have no memory in common."""


@asynccontextmanager
async def open_distant_computation(
    *functions: Callable[..., object], tls: bool = True
) -> AsyncIterator[discoro.Computation]:
    """Run a node with one server, and schedule a computation of the functions on it."""
    # What does not leave the machine by its address is not encrypted.
    where, secret = ends(main_address() if tls else "127.0.0.1"), secrets.token_hex(32)
    command = [*where.far_command, sys.executable, "-m", "discoro_trio", "node"]
    command += ["--cpus", "1", "--ip_addr", where.far, "--no_discover"]
    command += ["--tcp_ports", f"{PORTS[0]}-{PORTS[1]}", "--secret", secret]
    run = partial(trio.run_process, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    async with trio.open_nursery() as nursery:
        node = await nursery.start(run, command)
        places = [f"{where.far}:{PORTS[0]}"]
        async with discoro.open_scheduler(ip_addr=where.near, nodes=places, discover=False, secret=secret):
            services = current_endpoint().services
            for message in (SharedOffer, SharedAccepted):
                services.on_notice(message, _decline, trust=ANY)
            async with discoro.Computation(functions).schedule() as computation:
                yield computation
        node.terminate()
