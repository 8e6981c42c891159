"""A shared scheduler, nodes and clients, each with a place of its own on the network, in one program."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

SECRET = b"the secret of these tests, ready"
"""The key itself: what makes one of a passphrase takes long."""


class Cluster:
    """What runs, each in a task of its own, so that none encloses another."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.scopes: dict[str, trio.CancelScope] = {}

    async def open(self, name: str, block: Callable[[], AbstractAsyncContextManager[Any]]) -> Any:
        """Open a block in a task and give what it yields; `close(name)` leaves it."""
        return await self._nursery.start(self._keep, name, block)

    async def _keep(
        self,
        name: str,
        block: Callable[[], AbstractAsyncContextManager[Any]],
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.CancelScope() as self.scopes[name]:
            async with block() as opened:
                task_status.started(opened)
                await trio.sleep_forever()

    def close(self, name: str) -> None:
        """Leave a block."""
        self.scopes[name].cancel()

    async def scheduler(self, name: str = "scheduler", **options: Any) -> discoro.Scheduler:
        """Open a scheduler that finds nothing by itself."""
        found: discoro.Scheduler = await self.open(
            name,
            lambda: discoro.open_scheduler(**{"ip_addr": "127.0.0.1", "secret": SECRET, "discover": False, **options}),
        )
        return found

    async def node(
        self, name: str, *schedulers: discoro.Scheduler, servers: int = 1, discover: bool = False, **options: Any
    ) -> discoro.Node:
        """Open a node that joins schedulers; one that discovers others is given the address of none."""
        found: discoro.Node = await self.open(
            name,
            lambda: discoro.open_node(
                ip_addr="127.0.0.1",
                secret=SECRET,
                name=name,
                cpus=servers,
                discover=discover,
                nodes=[] if discover else [scheduler.location for scheduler in schedulers],
                **options,
            ),
        )
        return found


@asynccontextmanager
async def open_shared(seconds: float = 100) -> AsyncIterator[Cluster]:
    """Give a place for schedulers, nodes and clients; all of them end with the block."""
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            yield Cluster(nursery)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client(
    scheduler: discoro.Scheduler, *components: object, **options: Any
) -> AsyncIterator[discoro.Computation]:
    """Be a client of a scheduler, with an endpoint of its own."""
    computation = discoro.Computation(components, **options)
    async with discoro.open_endpoint(secret=SECRET), computation.schedule(scheduler.location):
        yield computation
