"""What 10,000 tasks take in one bare Trio process, each suspended at an empty mailbox of its own."""

from __future__ import annotations

import trio
import trio.testing

from benchmarks._scale import SUSPENDED, resident_megabytes


def measure(_seconds: float) -> float:
    """Return the growth of the process's resident memory, in megabytes; that takes what it takes."""
    return trio.run(_main)


async def _main() -> float:
    idle = resident_megabytes()
    async with trio.open_nursery() as nursery:
        for _ in range(SUSPENDED):
            nursery.start_soon(_suspended)
        await trio.testing.wait_all_tasks_blocked()
        grown = resident_megabytes() - idle
        nursery.cancel_scope.cancel()
    return grown


async def _suspended() -> None:
    send, receive = trio.open_memory_channel[None](1)
    async with send:
        await receive.receive()
