"""The memory that 64 MiB take when they are shared with all servers: what they and this process map of it."""

from __future__ import annotations

import numpy as np
import trio

from benchmarks._memory import megabytes_together
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.discoro._cluster import open_computation
from benchmarks.discoro._remote import sum_of_shared


def measure(seconds: float) -> float:  # noqa: ARG001 - every figure's module takes it
    """Return 10⁶ bytes, each page counted once however many processes map it; beside the program's own value."""

    async def main() -> float:
        payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
        async with open_computation(sum_of_shared, servers=WORKERS) as computation:

            async def use(value: np.ndarray) -> None:
                shared = await computation.share(value)
                for coro in await computation.run_servers(sum_of_shared, shared):
                    await coro.result()

            await use(payload[:1000])  # what else the first job brings into memory
            before = megabytes_together()
            await use(payload)
            return megabytes_together() - before

    return trio.run(main)
