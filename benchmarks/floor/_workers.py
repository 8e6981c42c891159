"""Starting the floor's worker processes. Owns their life; what they do is in `_worker`."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from benchmarks._systems import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_workers(role: str, *, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    """Start worker processes and accept their connections; on leaving, they have ended.

    Args:
        role: What they do: a name of `benchmarks.floor._worker.ROLES`.
        count: How many.
    """
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.floor._worker", str(port), role]
    workers = [await trio.lowlevel.open_process(command, cwd=ROOT) for _ in range(count)]
    streams = [await listener.accept() for _ in workers]
    await listener.aclose()
    try:
        yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)
        with trio.CancelScope(shield=True):
            for worker in workers:
                await worker.wait()
