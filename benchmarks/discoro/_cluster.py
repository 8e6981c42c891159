"""The cluster that every figure of this project is measured on: embedded, on this machine."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import discoro_trio as discoro

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@asynccontextmanager
async def open_computation(*functions: Callable[..., object], servers: int) -> AsyncIterator[discoro.Computation]:
    """Open a cluster of so many servers, and schedule a computation of the functions on it."""
    async with (
        discoro.open_cluster(servers=servers),
        discoro.Computation(functions).schedule() as computation,
    ):
        yield computation
