"""A computation whose client and server talk under TLS, as two machines do: over an address that is not loopback."""

from __future__ import annotations

import secrets
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

import discoro_trio as discoro
from benchmarks.discoro._cluster import decline_shared_memory
from discoro_trio.link import main_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PORTS = (51391, 51392)


@asynccontextmanager
async def open_tls_computation(*functions: Callable[..., object]) -> AsyncIterator[discoro.Computation]:
    """Run a node with one server, and schedule a computation of the functions on it."""
    address, secret = main_address(), secrets.token_hex(32)
    command = [sys.executable, "-m", "discoro_trio", "node", "--cpus", "1", "--ip_addr", address, "--no_discover"]
    command += ["--tcp_ports", f"{PORTS[0]}-{PORTS[1]}", "--secret", secret]
    run = partial(trio.run_process, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    async with trio.open_nursery() as nursery:
        node = await nursery.start(run, command)
        places = [f"{address}:{PORTS[0]}"]
        async with discoro.open_scheduler(ip_addr=address, nodes=places, discover=False, secret=secret):
            decline_shared_memory()
            async with discoro.Computation(functions).schedule() as computation:
                yield computation
        node.terminate()
