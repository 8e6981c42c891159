"""A client and its servers, joined by the key of a lease, in one run of Trio."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from discoro_trio._wire import Credential

from .worlds import open_process, open_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from discoro_trio._process import Process

LEASE = Credential(b"L" * 16, b"l" * 32)


@asynccontextmanager
async def open_computation(servers: int) -> AsyncIterator[tuple[Process, list[Process]]]:
    """Open a client and its servers."""
    async with open_processes(1) as (client,):
        client.endpoint.credentials[LEASE.realm] = LEASE
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def serve(*, task_status: trio.TaskStatus[Process]) -> None:
                async with open_process(credential=LEASE) as server:
                    server.names.client = client.id
                    await client.endpoint.link_to(server.id, server.endpoint.location, LEASE.realm)
                    task_status.started(server)
                    await done.wait()

            opened = [await nursery.start(serve) for _ in range(servers)]
            try:
                yield client, opened
            finally:
                done.set()
