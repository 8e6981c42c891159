"""64 MiB one way over a bare pair of `ssl` sockets, from memory into memory: no file is read or written."""

from __future__ import annotations

import trio

from benchmarks._load import median_seconds
from benchmarks._scale import bulk_payload, one_way_megabytes_per_second
from benchmarks.floor._tls_pair import open_tls_pair, receive_exactly


def measure(seconds: float) -> float:
    """Return megabytes per second, until the other side has it all."""
    payload = bulk_payload()
    answer = memoryview(bytearray(1))
    with open_tls_pair("take") as sock:

        async def send(_: int) -> None:
            sock.sendall(payload)
            receive_exactly(sock, answer)

        return one_way_megabytes_per_second(trio.run(lambda: median_seconds(send, seconds=seconds)))
