"""The memory that 64 MiB take when they are scattered to all workers, beside the program's own value."""

from __future__ import annotations

import numpy as np

from benchmarks._memory import megabytes_together
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.peers.dask._cluster import open_client, total_of


def measure(seconds: float) -> float:  # noqa: ARG001 - every figure's module takes it
    """Return 10⁶ bytes, each page counted once however many processes map it."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_client(workers=WORKERS) as client:
        workers = list(client.scheduler_info()["workers"])

        def use(value: np.ndarray) -> object:
            future = client.scatter(value, broadcast=True, hash=False)
            client.gather([client.submit(total_of, future, workers=[worker], pure=False) for worker in workers])
            return future

        use(payload[:1000])
        before = megabytes_together()
        kept = use(payload)
        used = megabytes_together() - before
        del kept
        return used
