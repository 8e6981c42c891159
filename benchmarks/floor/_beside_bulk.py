"""Small messages there and back over one bare pair of `ssl` sockets, alone, and beside bulk data over another one.

Both pairs are between the same two processes, with a thread for each connection.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from contextlib import suppress
from time import perf_counter

from benchmarks._scale import BETWEEN_SMALL, FEWEST, MICROSECONDS, WARM_UP, bulk_payload
from benchmarks.floor._tls_pair import SWITCH_SECONDS, open_tls_pairs, receive_exactly


def measure_beside_bulk(seconds: float) -> tuple[float, float]:
    """Return the 99th percentile of a round trip in microseconds: alone, and beside bulk data."""
    payload = bulk_payload()
    answer = memoryview(bytearray(1))
    over = threading.Event()
    sys.setswitchinterval(SWITCH_SECONDS)
    with open_tls_pairs("echo_small", "drop") as (small, bulk):

        def slowest(duration: float) -> float:
            trips: list[float] = []
            end = perf_counter() + duration
            while len(trips) < FEWEST or perf_counter() < end:
                begun = perf_counter()
                small.sendall(b"x")
                receive_exactly(small, answer)
                trips.append(perf_counter() - begun)
                time.sleep(BETWEEN_SMALL)
            return statistics.quantiles(trips, n=100)[-1] * MICROSECONDS

        def send_bulk() -> None:
            with suppress(OSError):
                while not over.is_set():
                    bulk.sendall(payload)

        slowest(max(seconds * WARM_UP, 0.1))
        alone = slowest(max(seconds, 0.1))
        sending = threading.Thread(target=send_bulk)
        sending.start()
        beside = slowest(max(seconds, 0.1))
        over.set()
        sending.join()
        return alone, beside
