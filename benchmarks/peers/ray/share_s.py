"""64 MiB put into the object store, until a task on each worker has looked at it."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from benchmarks._blocking_load import median_seconds
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.peers.ray._cluster import open_cluster


def measure(seconds: float) -> float:
    """Return the seconds of one value: put, used by as many tasks at once as there are workers, released."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_cluster(workers=WORKERS):

        def last_of(value: Any) -> int:
            return int(value[-1])

        task = ray.remote(last_of)

        def share(_: int) -> None:
            reference = ray.put(payload)
            assert ray.get([task.remote(reference) for _ in range(WORKERS)]) == [payload[-1]] * WORKERS

        return median_seconds(share, seconds=seconds)
