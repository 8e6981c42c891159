"""What 10,000 coroutines take on one server, each suspended at an empty mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks._scale import SUSPENDED
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import resident_megabytes, suspended

if TYPE_CHECKING:
    import discoro_trio as discoro

AT_ONCE = 100
"""Coroutines that are being started at once."""


def measure(_seconds: float) -> float:
    """Return the growth of the server's resident memory, in megabytes; that takes what it takes."""
    return trio.run(_main)


async def _main() -> float:
    async with open_computation(suspended, resident_megabytes, servers=1) as computation:
        idle = await computation.run_result(resident_megabytes)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(_start, computation, SUSPENDED // AT_ONCE)
        return await computation.run_result(resident_megabytes) - idle


async def _start(computation: discoro.Computation, number: int) -> None:
    for _ in range(number):
        await computation.run(suspended)
