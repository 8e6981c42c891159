"""64 MiB shared with all servers, until a job on each of them has looked at it."""

from __future__ import annotations

import numpy as np
import trio

from benchmarks._load import median_seconds
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import last_of_shared


def measure(seconds: float) -> float:
    """Return the seconds of one value: shared, used by every server, released."""

    async def main() -> float:
        payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
        async with open_computation(last_of_shared, servers=WORKERS) as computation:

            async def share(_: int) -> None:
                shared = await computation.share(payload)
                for coro in await computation.run_servers(last_of_shared, shared):
                    assert await coro.result() == payload[-1]
                await shared.release()

            return await median_seconds(share, seconds=seconds)

    return trio.run(main)
