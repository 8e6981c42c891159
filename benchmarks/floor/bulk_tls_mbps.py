"""64 MiB there and back over a bare pair of `ssl` sockets, each side into memory taken once."""

from __future__ import annotations

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import bulk_megabytes_per_second, bulk_payload
from benchmarks.floor._tls_pair import open_tls_pair, receive_exactly


def measure(seconds: float) -> float:
    """Return megabytes per second, both directions counted."""
    payload = bulk_payload()
    memory = memoryview(bytearray(len(payload)))
    with open_tls_pair("echo") as sock:

        async def round_trip(_: int) -> None:
            sock.sendall(payload)
            receive_exactly(sock, memory)

        return bulk_megabytes_per_second(trio.run(lambda: median_seconds(round_trip, seconds=seconds)))
