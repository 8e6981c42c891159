"""The cluster that every figure of this project is measured on: embedded, on this machine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import discoro_trio as discoro
from discoro_trio.link import ANY, current_endpoint
from discoro_trio.link._sharing import SharedAccepted, SharedOffer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from discoro_trio.link import Link
    from discoro_trio.wire import Control


@asynccontextmanager
async def open_computation(
    *functions: Callable[..., object], servers: int, shared_memory: bool = True
) -> AsyncIterator[discoro.Computation]:
    """Open a cluster of so many servers, and schedule a computation of the functions on it."""
    async with discoro.open_cluster(servers=servers):
        if not shared_memory:
            decline_shared_memory()
        async with discoro.Computation(functions).schedule() as computation:
            yield computation


def decline_shared_memory() -> None:
    """Let large buffers take the connection, from this process and to it, as among machines."""
    services = current_endpoint().services
    for message in (SharedOffer, SharedAccepted):
        services.on_notice(message, _decline, trust=ANY)


def _decline(_link: Link, _message: Control) -> None:
    """Machines have no memory in common."""
