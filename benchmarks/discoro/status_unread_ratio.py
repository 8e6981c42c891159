"""What a status subscriber that never reads costs jobs: their processor time with one, as a part of that without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.discoro._subscribed import ratio

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    import discoro_trio as discoro


def measure(seconds: float) -> float:
    """Return the processor time of jobs with the subscriber as a part of that without."""
    return ratio(_subscribe, seconds, "nobody reads")


async def _subscribe(computation: discoro.Computation, stack: AsyncExitStack) -> None:
    await stack.enter_async_context(computation.subscribe())
