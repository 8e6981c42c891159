"""64 MiB to a coroutine on a server, and back: the same for every way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.discoro._round_trips import median_round_trip

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import discoro_trio as discoro


def measure_bulk(opened: AbstractAsyncContextManager[discoro.Computation], seconds: float) -> float:
    """Return megabytes per second, both directions counted.

    Args:
        opened: A computation with `echo` and one server.
        seconds: How long to go on.
    """
    payload = bulk_payload()

    async def main() -> float:
        return bulk_megabytes_per_second(await median_round_trip(opened, lambda _: payload, seconds=seconds))

    return trio.run(main)
