"""64 MiB scattered to all workers, until a task on each of them has looked at it."""

from __future__ import annotations

import numpy as np

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.peers.dask._cluster import last_of, open_client


def measure(seconds: float) -> float:
    """Return the seconds of one value: scattered, used by every worker, released."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_client(workers=WORKERS) as client:
        workers = list(client.scheduler_info()["workers"])

        def share(_: int) -> None:
            future = client.scatter(payload, broadcast=True, hash=False)
            tasks = [client.submit(last_of, future, workers=[worker], pure=False) for worker in workers]
            assert client.gather(tasks) == [payload[-1]] * WORKERS

        return median_seconds(share, seconds=seconds)
