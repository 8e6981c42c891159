"""The memory that 64 MiB take when they are put into the object store and used by all workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray

from benchmarks._memory import megabytes_together
from benchmarks._scale import WORKERS, bulk_payload
from benchmarks.peers.ray._cluster import open_cluster


def measure(seconds: float) -> float:  # noqa: ARG001 - every figure's module takes it
    """Return 10⁶ bytes, each page counted once however many processes map it."""
    payload = np.frombuffer(bulk_payload(), dtype=np.uint8)
    with open_cluster(workers=WORKERS):

        def total_of(value: Any) -> int:
            return int(value.sum())

        task = ray.remote(total_of)

        def use(value: np.ndarray) -> object:
            reference = ray.put(value)
            ray.get([task.remote(reference) for _ in range(WORKERS)])
            return reference

        use(payload[:1000])
        before = megabytes_together()
        kept = use(payload)
        used = megabytes_together() - before
        del kept
        return used
