"""Placement without a cluster: the time that it takes, whatever the number of servers."""

from __future__ import annotations

import time
from collections import deque

from discoro_trio._client._load_balancer import LoadBalancer

SERVERS_A_NODE = 10
JOBS_A_SERVER = 2
ROUND = 1000


def seconds_a_job(servers: int, *, seconds: float) -> float:
    """Return the seconds of placing one coroutine and of noting the end of the oldest one."""
    placement = LoadBalancer()
    for number in range(servers):
        placement.add(b"node %d" % (number // SERVERS_A_NODE), b"server %d" % number)
    running: deque[bytes] = deque()
    for _ in range(JOBS_A_SERVER * servers):
        running.append(_place(placement))
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(ROUND):
            placement.change(running.popleft(), -1)
            running.append(_place(placement))
        count += ROUND
    return passed / count


def _place(placement: LoadBalancer) -> bytes:
    server = placement.least()
    assert server is not None
    placement.change(server, 1)
    return server
