"""Opens schedulers and nodes for the programs and for clients."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .._scopes import open_background
from ..process import ensure_endpoint
from ._node import processors, serve_node
from ._scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_scheduler: ContextVar[Scheduler | None] = ContextVar("discoro scheduler", default=None)


def current_scheduler() -> Scheduler | None:
    """Give the innermost scheduler that encloses the calling task."""
    return _scheduler.get()


@asynccontextmanager
async def open_cluster(servers: int | None = None) -> AsyncIterator[Scheduler]:
    """Run servers on this machine, and a private scheduler for them, while the block lasts.

    Args:
        servers: How many; by default one a processor.

    Yields:
        The scheduler; computations in the block find it by themselves.

    Raises:
        ValueError: `servers` is less than 1.

    When the block is left, also by an exception or Ctrl-C, all servers have ended and their files are gone.
    """
    if servers is not None and servers < 1:
        message = f"servers must be 1 or more, not {servers!r}; leave it out for one a processor"
        raise ValueError(message)
    count = processors() if servers is None else servers
    async with ensure_endpoint() as process, open_background() as nursery:
        endpoint = process.endpoint
        scheduler = Scheduler(endpoint, nursery)
        token = _scheduler.set(scheduler)
        try:
            async with serve_node(endpoint, servers=count) as node:
                await node.join(await endpoint.link_at(endpoint.location))
                yield scheduler
        finally:
            _scheduler.reset(token)
