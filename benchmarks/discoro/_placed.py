"""Placement without a cluster: the time that it takes, whatever the number of servers."""

from __future__ import annotations

import time
from collections import deque

from discoro_trio._client._load_balancer import LoadBalancer, ServerLoad

SERVERS_A_NODE = 10
JOBS_A_SERVER = 2
ROUND = 1000


def seconds_a_job(servers: int, *, seconds: float) -> float:
    """Return the seconds of placing one coroutine, of noting that it has begun, and of the end of the oldest one."""
    balancer = LoadBalancer()
    for number in range(servers):
        balancer.add(b"node %d" % (number // SERVERS_A_NODE), b"server %d" % number)
    running: deque[ServerLoad] = deque()
    for _ in range(JOBS_A_SERVER * servers):
        running.append(_place(balancer))
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < seconds:
        for _ in range(ROUND):
            balancer.ended(running.popleft())
            running.append(_place(balancer))
        count += ROUND
    return passed / count


def _place(balancer: LoadBalancer) -> ServerLoad:
    now = time.perf_counter()
    place = balancer.pick(now)
    assert place is not None
    balancer.begun(place, balancer.sent(place, now), 0, now)
    return place
