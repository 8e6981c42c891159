"""Many jobs at once, one `submit` each."""

from __future__ import annotations

from time import perf_counter

import distributed

from benchmarks._scale import IN_FLIGHT, WARM_UP, WORKERS
from benchmarks.peers.dask._cluster import increment, open_client


def measure(seconds: float) -> float:
    """Return jobs per second."""
    with open_client(workers=WORKERS) as client:
        _submit(client, seconds * WARM_UP)
        begun = perf_counter()
        jobs = _submit(client, seconds)
        return jobs / (perf_counter() - begun)


def _submit(client: distributed.Client, seconds: float) -> int:
    deadline = perf_counter() + seconds
    under_way = distributed.as_completed([client.submit(increment, number, pure=False) for number in range(IN_FLIGHT)])
    jobs = 0
    for future in under_way:
        future.result()
        jobs += 1
        if perf_counter() < deadline:
            under_way.add(client.submit(increment, jobs, pure=False))
    return jobs
